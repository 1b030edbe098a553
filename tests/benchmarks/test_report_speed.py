from pathlib import Path

from prunedlora.benchmarks.product.report_speed import report_seconds
from prunedlora.config.load import load_sweep
from prunedlora.results.store import Store

ROOT = Path(__file__).parents[2]


def test_a_made_up_store_is_read_and_written_up(tmp_path: Path) -> None:
    config = load_sweep(ROOT / "search_spaces" / "quickstart.yaml")
    figures = report_seconds(config, tmp_path / "store", num_trials=12, num_candidates=2)
    records = Store(str(tmp_path / "store")).records()
    assert figures["num_trials"] == len(records) == 12
    assert figures["num_candidates"] == sum(len(record.candidates) for record in records) > 12
    assert set(figures["seconds"]) == {"read", "page", "everything"}
    assert all(span["clock"] > 0 and span["cpu"] > 0 for span in figures["seconds"].values())
    assert figures["page_bytes"] == (tmp_path / "store" / "report" / "report.html").stat().st_size
