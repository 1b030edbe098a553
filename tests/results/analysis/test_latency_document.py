import io

import pytest
from rich.console import Console

from prunedlora.results.analysis.latency_document import (
    Conditions,
    Latencies,
    Latency,
    latency_columns,
    read_latencies,
    spread,
    write_latency,
)
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import RecordError
from prunedlora.results.report.latency_table import print_latencies

SECONDS = ("load_seconds", "base_seconds", "adapter_seconds", "merged_seconds")


def conditions(**changes):
    fields = {
        "device": "cpu",
        "machine": "AMD EPYC 9999 192-Core Processor, 384 cores",
        "num_threads": 2,
        "dtype": "float32",
        "batch_size": 8,
        "num_tokens": 128,
        "packages": {"torch": "2.13"},
    }
    return Conditions(**(fields | changes))


def latency(base=0.01, merged=(0.01, 0.01, 0.01), **changes):
    return Latency(
        conditions=conditions(**changes),
        load_seconds=(0.5, 0.01, 0.02),
        base_seconds=(base, base, base),
        adapter_seconds=(2 * base, 2 * base, 0.1),
        merged_seconds=merged,
    )


def test_a_measurement_takes_the_place_of_one_under_the_same_conditions(fill, record):
    store = fill(record("a1"))
    assert read_latencies(store, "a1", "10") == ()
    for one in (latency(0.01), latency(0.02, device="H100"), latency(0.03)):
        write_latency(store, "a1", "10", one)
    assert [(one.conditions.device, one.base) for one in read_latencies(store, "a1", "10")] == [
        ("H100", 0.02),
        ("cpu", 0.03),
    ]
    assert (latency().load, latency().adapter, latency().merged) == (0.02, 0.02, 0.01)
    assert latency(merged=()).merged is None
    assert store.records()[0].key == "a1"  # the record does not know


def test_columns_are_by_conditions_the_most_measured_first(fill, record, candidate):
    store = fill(record("a1", candidate(0.5, 100)), record("b2", candidate(0.6, 200)))
    points = summarize(store).points
    assert latency_columns(store, points) == []
    write_latency(store, "a1", "10", latency(0.01, device="A100"))
    for key, base in (("a1", 0.02), ("b2", 0.03)):
        write_latency(store, key, "10", latency(base, device="H100"))
    (first, found), (second, other) = latency_columns(store, points)
    assert (first.device, {name: one.base for name, one in found.items()}) == ("H100", {"a1@10": 0.02, "b2@10": 0.03})
    assert (second.device, list(other)) == ("A100", ["a1@10"])


def test_a_broken_file_is_named(fill, record):
    store = fill(record("a1"))
    store.storage.write_text("trials/a1/latency/10.json", '{"measured": []}')
    with pytest.raises(RecordError, match=r"a1/latency/10\.json: not a valid Latencies: measured: "):
        read_latencies(store, "a1", "10")
    with pytest.raises(ValueError, match="two measurements under the same conditions"):
        Latencies(measured=(latency(), latency()))


def test_the_table_fits_and_says_how_unquiet_it_was(record, candidate, cut):
    one = candidate(step=100000, cut=cut(128), file_bytes=1023 * 1024)
    console = Console(file=io.StringIO(), width=100)
    rows = [(record("a" * 16), one, latency(123.456)), (record("b" * 16), one, latency(0.01, merged=()))]
    print_latencies(rows, console, as_json=False)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    first, second = (line for line in text.splitlines() if "@100000r128" in line)
    assert first.split() == [
        f"{'a' * 16}@100000r128", "2", "1023", "KiB", "20", "123456", "246912", "(×2.00)", "10", "(×0.00)"
    ]  # fmt: skip
    assert second.split()[4:] == ["20", "10", "20", "(×2.00)"]
    assert "8 × 128 tokens, float32, AMD EPYC 9999 192-Core Processor, 384 cores, 2 threads" in " ".join(text.split())
    assert "middle half spread over up to" in " ".join(text.split())
    print_latencies(
        [(record("a1"), one, latency().model_copy(update=dict.fromkeys(SECONDS, (0.01,))))], console, as_json=False
    )
    assert "One round each" in console.file.getvalue()


def test_spread_is_the_interquartile_range():
    assert spread((1.0,)) is None
    assert spread((1.0, 2.0, 3.0)) == 2.0  # quartiles 1 and 3
    assert spread((2.0, 2.0, 2.0, 2.0)) == 0.0


def test_ratios_are_to_the_base_in_the_same_round():
    """A machine that slows down tenfold in between changes nothing."""
    rounds = {"load_seconds": (0.1,), "base_seconds": (1.0, 10.0, 1.0), "adapter_seconds": (2.0, 20.0, 2.0)}
    one = Latency(conditions=conditions(), **rounds, merged_seconds=(1.0, 10.0, 1.5))
    assert (one.adapter_ratios, one.merged_ratios) == ((2.0, 2.0, 2.0), (1.0, 1.0, 1.5))
    assert Latency(conditions=conditions(), **rounds, merged_seconds=()).merged_ratios == ()
    with pytest.raises(ValueError, match="3 rounds of the base model, but 3 with the adapter and 2 merged"):
        Latency(conditions=conditions(), **rounds, merged_seconds=(1.0, 1.0))
