"""Learning curves: whose are drawn, and that a log becomes few points with the means of all steps."""

import pytest

from prunedlora.results.analysis.learning_curves import BRIGHT_BINS, MOST_FADED, learning_curves
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.report.chart import curve_chart

LORA = {"adapter": {"method": "lora"}}


@pytest.fixture
def store(fill, record, candidate):
    store = fill(
        record("front", candidate(0.97, 400, 60, progress=0.5), candidate(0.975, 390, 120)),
        record("plain", candidate(0.97, 9000, 120), config=LORA, label="LoRA of rank 1"),
        record("other", candidate(0.5, 10_000, 120)),
        record("silent", candidate(0.4, 10_000, 120)),
    )
    for key in ("front", "plain", "other"):
        lines = [{"step": step, "loss": 2.0 / step} for step in range(1, 121)]
        store.append_log(key, [*lines, {"train_seconds": 1.0, "time": {}}])
    return store


def test_the_front_and_plain_lora_are_bright_and_what_has_no_log_is_left_out(store):
    found = learning_curves(summarize(store))
    assert [(one.record.key, one.is_bright, one.is_recommended) for one in found.curves] == [
        ("front", True, True), ("plain", True, False), ("other", False, False),
    ]  # fmt: skip
    assert [one.title for one in found.curves[:2]] == ["prunedlora front (recommended)", "LoRA of rank 1 plain"]
    bright = found.curves[0]
    assert (len(bright.train), bright.train[-1][0]) == (BRIGHT_BINS, 120)
    steps = 120 / BRIGHT_BINS
    assert sum(loss for _, loss in bright.train) * steps == pytest.approx(sum(2.0 / step for step in range(1, 121)))
    assert bright.validation == ((60, pytest.approx(0.03)), (120, pytest.approx(0.025)))


def test_lines_have_the_colour_of_their_method_and_rings_are_validation(store):
    figure = curve_chart(learning_curves(summarize(store)))
    other, front, rings, plain, _ = figure.data
    assert (other.name, other.showlegend, other.line.color) == ("other trainings", True, "#747a84")
    assert (front.line.color, front.line.width, plain.line.color) == ("#2f74e8", 3.0, "#cd5408")
    assert (rings.mode, tuple(rings.x), rings.marker.symbol) == ("markers", (60, 120), "circle-open")
    assert figure.layout.yaxis.type == "log"  # 2.0 down to 0.017


def test_logs_of_a_large_sweep_are_not_all_read(fill, record, candidate, monkeypatch):
    store = fill(*(record(f"k{n:03d}", candidate(0.9 - n / 1000, 100 + n)) for n in range(60)))
    read = []
    monkeypatch.setattr(type(store), "read_log", lambda self, key: read.append(key) or [])
    assert learning_curves(summarize(store)).num_left_out == 59 - MOST_FADED
    assert len(read) == 1 + MOST_FADED
