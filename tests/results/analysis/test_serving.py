import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.results.analysis.serving import Server, ServingError, serving_cost
from prunedlora.results.report.serving_table import print_serving

LAYERS = {"a.q": (64, 64), "a.v": (64, 16), "b.q": (64, 64)}
"""Sum of in + out: 336."""
EMBEDDINGS = {"embed": (1000, 64), "lm_head": (64, 1000)}


@pytest.fixture
def wide(record):
    """A record maker with the widths of its base's layers."""
    return lambda key, *candidates: record(key, *candidates, layer_widths=LAYERS, embedding_widths=EMBEDDINGS)


@pytest.mark.parametrize(
    ("max_rank", "server", "rank", "before", "added"),
    [
        # 336 numbers per rank and slot.
        (3, Server(8, 16, "bfloat16"), 16, 8 * 336 * 16 * 2, 0),
        (16, Server(8, 16, "float16"), 16, 8 * 336 * 16 * 2, 0),
        (0, Server(8, 16, "float16"), 16, 8 * 336 * 16 * 2, 0),
        (17, Server(8, 16, "bfloat16"), 32, 8 * 336 * 16 * 2, 8 * 336 * 16 * 2),
        (17, Server(1, 1, "float32"), 32, 336 * 4, 336 * 31 * 4),
        (257, Server(2, 8, "bfloat16"), 320, 2 * 336 * 8 * 2, 2 * 336 * 312 * 2),
        (513, Server(2, 8, "bfloat16"), None, 2 * 336 * 8 * 2, None),
        (9, Server(1, 8, "bfloat16", embeddings=True), 16, 2464 * 8 * 2, 2464 * 8 * 2),
    ],
)
def test_an_adapter_costs_its_slot_or_larger_ones_for_all(max_rank, server, rank, before, added, wide, candidate):
    one = candidate(max_rank=max_rank)
    cost = serving_cost(wide("a1", one), one, server)
    assert (cost.rank, cost.bytes_before, cost.bytes_added) == (rank, before, added)
    assert cost.bytes_after == (None if added is None else before + added)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((0, 16, "bfloat16"), "max_loras must be at least 1, got 0"),
        ((8, 12, "bfloat16"), "max_lora_rank 12 is none that vLLM takes: 1, 8, 16, 32, 64, 128, 256, 320, 512"),
        ((8, 16, "int8"), "dtype 'int8' is none of float16, bfloat16, float32"),
    ],
)
def test_a_server_that_there_cannot_be_is_refused(flags, message):
    with pytest.raises(ServingError, match=message):
        Server(*flags)


def test_a_record_without_widths_is_refused(record, candidate):
    one = candidate()
    with pytest.raises(ServingError, match=r"trial a1: the widths .* are not on record, because it was recorded by an"):
        serving_cost(record("a1", one), one, Server(8, 16, "bfloat16"))


def printed(store, server, name=None, as_json=False):
    console = Console(file=io.StringIO(), width=100)
    print_serving(store, name, server, console, as_json=as_json)
    return console.file.getvalue()


def test_the_table_of_the_front_fits_and_says_what_to_know(fill, wide, candidate, cut):
    store = fill(
        wide("a" * 16, candidate(0.5, 100, 100000, cut=cut(128), max_rank=128)),
        wide("b" * 16, candidate(0.75, 200, max_rank=600, served_slot=None, head_params=0)),
    )
    text = printed(store, Server(8, 16, "bfloat16"))
    assert max(map(len, text.splitlines())) <= 100
    assert "On a server of 8 slots of rank 16 in bfloat16" in text
    row = next(line for line in text.splitlines() if line.startswith(f"{'a' * 16}@100000r128"))
    assert row.split()[4:] == ["600", "B", "128", "128", "84", "KiB", "672", "KiB", "588", "KiB"]
    row = next(line for line in text.splitlines() if line.startswith(f"{'b' * 16}@10"))
    assert row.split()[-3:] == ["none", "84", "KiB"]
    words = " ".join(text.split())
    assert "A and B of all 3 layers" in words
    assert "--embeddings" in words
    assert "above 512" in words
    assert "vLLM would refuse 1 of 2" in words
    assert "all 5 layers" in printed(store, Server(8, 16, "bfloat16", embeddings=True))


def test_the_command_has_one_candidate_as_json(fill, wide, candidate):
    store = fill(wide("a1", candidate(step=5, max_rank=20), candidate(step=10)))
    command = ["serving", store.uri, "a1@5", "--max-loras", "2", "--max-lora-rank", "8", "--json"]
    document = json.loads(CliRunner().invoke(app, command).stdout)
    [adapter] = document["adapters"]
    assert document["server"] == {"max_loras": 2, "max_lora_rank": 8, "dtype": "bfloat16", "embeddings": False}
    assert adapter["candidate"] == "a1@5"
    assert adapter["max_lora_rank"] == 32
    assert adapter["slots_bytes_before"] == 2 * 336 * 8 * 2
    assert adapter["slots_bytes_added"] == 2 * 336 * 24 * 2
    refused = CliRunner().invoke(app, [*command[:5], "--max-lora-rank", "9"])
    assert refused.exit_code == 2
    assert "'9' is not one of '1', '8', '16'" in " ".join(refused.stderr.replace("│", "").split())


def test_the_command_takes_the_recommended_one_or_all_on_the_front(fill, wide, candidate):
    """Or one by any other name that stands for a candidate."""
    store = fill(wide("a1", candidate(0.895, 50)), wide("b2", candidate(0.9, 100)))

    def adapters(*named):
        done = CliRunner().invoke(app, ["serving", store.uri, *named, "--json"])
        assert done.exit_code == 0, done.output
        return [adapter["candidate"] for adapter in json.loads(done.stdout)["adapters"]]

    assert adapters() == adapters("recommended") == adapters("a") == ["a1@10"]
    assert adapters("best") == ["b2@10"]
    assert adapters("--front") == ["a1@10", "b2@10"]
    empty = candidate(0.7, 0, max_rank=0, adapter_path=None)  # on the front, and nothing to serve
    store.write_record(wide("c3", empty), 1)
    assert adapters("--front") == ["a1@10", "b2@10"]
    both = CliRunner().invoke(app, ["serving", store.uri, "best", "--front"])
    assert both.exit_code == 2
    assert "--front is all candidates on the front: name none" in " ".join(both.stderr.replace("│", "").split())


def test_without_an_adapter_to_recommend_the_command_says_so(fill):
    done = CliRunner().invoke(app, ["serving", fill().uri])
    assert done.exit_code == 2
    assert "has no recommended candidate. No trial has finished yet" in done.stderr


def test_a_store_without_a_front_is_told_why(fill):
    with pytest.raises(ServingError, match="No trial has finished yet"):
        printed(fill(), Server(8, 16, "bfloat16"))


def test_the_size_axis_is_an_option_of_report_and_recommend(fill, record, candidate):
    store = fill(record("a1", candidate(0.9, 100, file_bytes=10)), record("b2", candidate(0.9, 50, file_bytes=20)))
    runner = CliRunner()
    assert runner.invoke(app, ["report", store.uri]).exit_code == 0
    assert "Recommended: b2@10" in runner.invoke(app, ["report", store.uri]).stdout
    assert "Recommended: a1@10" in runner.invoke(app, ["report", store.uri, "--size-axis", "file_bytes"]).stdout
    assert "Recommended: a1@10" in runner.invoke(app, ["recommend", store.uri, "--size-axis", "file_bytes"]).stdout
    wrong = runner.invoke(app, ["recommend", store.uri, "--size-axis", "bytes"])
    assert wrong.exit_code == 2
    assert "'bytes' is not one of 'adapter_params'" in " ".join(wrong.stderr.replace("│", "").split())
    slots = runner.invoke(app, ["recommend", store.uri, "--max-slot-bytes", "4096"])
    assert "'served_slot_bytes' has no value" in slots.stderr
