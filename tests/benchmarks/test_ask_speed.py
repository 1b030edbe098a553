from pathlib import Path

from prunedlora.benchmarks.product.ask_speed import ask_seconds
from prunedlora.config.load import load_sweep

ROOT = Path(__file__).parents[2]


def test_asks_of_both_kinds_are_timed() -> None:
    config = load_sweep(ROOT / "search_spaces" / "quickstart.yaml", ["telling=candidates"])
    figures = ask_seconds(config, num_trials=[8, 12], num_asks=2, num_candidates=3)
    assert (figures["telling"], figures["num_candidates"]) == ("candidates", 3)
    assert figures["sampler"] == config.sampler
    assert [each["num_trials"] for each in figures["asks"]] == [8, 12]
    assert all(each["seconds"].keys() == {"kept", "rebuilt"} for each in figures["asks"])
    assert all(each["ratio"] > 0 for each in figures["asks"])
