"""Ladders in a report: rungs of a training are one line, cuts are marks of their own, names of all are to be had."""

import csv
import io
import json

import pytest
from rich.console import Console

from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import Cut
from prunedlora.results.report.front_chart import front_chart
from prunedlora.results.report.front_png import front_png
from prunedlora.results.report.ladder_lines import MOST_LINES, LadderLines, ladder_lines
from prunedlora.results.report.overview import overview
from prunedlora.results.report.report import write_report
from prunedlora.results.rung_text import made_text, rung_text

SCHEDULE = {"name": "ladder", "rungs": {"parameters": [500, 200], "mean_rank": None, "kept": None}}
CONFIG = {"adapter": {"method": "prunedlora"}, "pruning": {"schedule": SCHEDULE}, "seed": 0}
SHARED = Cut(basis="whitened", allocation="global_per_parameter", unit="parameters", size=120)


@pytest.fixture
def ladder(record, candidate, cut):
    """ladder(key, worse by): trunk of 1,000 parameters, rungs of 500 and 200, the last cut to rank 1 and to 120."""

    def make(key, worse=0.0):
        rungs = [
            candidate(quality - worse, size, step, rung=rung, branch_steps=branch)
            for quality, size, step, rung, branch in (
                (0.99, 1000, 40, 0, 8),
                (0.98, 500, 60, 1, 4),
                (0.97, 200, 80, 2, 4),
            )
        ]
        cuts = [
            candidate(0.9 - worse, 100, 80, rung=2, cut=cut(1), branch_steps=4),
            candidate(0.92 - worse, 119, 80, rung=2, cut=SHARED, branch_steps=4),
        ]
        return record(key, *rungs, *cuts, config=CONFIG)

    return make


def traces(summary):
    """By name; of several that have one, the first."""
    return {trace.name: trace for trace in reversed(front_chart(summary, []).data)}


def test_the_rungs_of_a_training_are_one_line_from_small_to_large_without_its_cuts(fill, ladder, record, candidate):
    summary = summarize(
        fill(ladder("a"), ladder("b", 0.01), record("c", candidate(0.5, 300, 5), candidate(0.4, 200, 9)))
    )
    found = traces(summary)
    line = found["rungs of one training"]  # the first: of the training that reaches the front
    assert line.x == (200, 500, 1000, None)
    assert line.y == (0.97, 0.98, 0.99, None)
    lines = ladder_lines(summary).lines
    assert [(one.points[0].key, one.reaches_front) for one in lines] == [("a", True), ("b", False)]
    thin = [one.line.width for one in front_chart(summary, []).data if one.name == "rungs of one training"]
    assert thin == [1.5, 0.7]
    assert found["prunedlora"].marker.symbol == "circle"
    hollow = found["prunedlora, cut"]
    assert (hollow.marker.symbol, sorted(hollow.x)) == ("circle-open", [100, 119])
    assert hollow.customdata[:, 3].tolist() == ["a@80r1", "a@80-whitened-global_per_parameter-parameters-120"]
    assert hollow.customdata[1, 4] == (
        "<br>rung: 2/2 cut<br>cut to at most 120 parameters, by whitened, allocation global_per_parameter"
    )
    assert found["prunedlora"].customdata[-1, 4] == "<br>rung: 2/2"
    assert front_png(summary).startswith(b"\x89PNG")


def test_of_many_trainings_only_those_that_reach_the_front_have_lines(fill, ladder):
    few = fill(*(ladder(f"k{i:02d}", i / 1000) for i in range(MOST_LINES)))
    assert len(ladder_lines(summarize(few)).lines) == MOST_LINES
    assert ladder_lines(summarize(few)).note() == "A thin line joins the rungs of one training."
    few.write_record(ladder("k99", 0.1), driver_epoch=1)
    many = ladder_lines(summarize(few))
    assert ([line.points[0].key for line in many.lines], many.num_left_out) == (["k00"], MOST_LINES)
    assert many.note().endswith("of one training. Lines are drawn only for the 1 training that reaches the front.")
    several = LadderLines(many.lines * 2, num_left_out=11)
    assert several.note().endswith("Lines are drawn only for the 2 trainings that reach the front.")
    assert traces(summarize(few))["rungs of one training"].x == (200, 500, 1000, None)


def test_without_ladders_nothing_is_said_of_them(fill, record, candidate):
    store = fill(record("a", candidate(0.9, 100, 5), candidate(0.8, 50, 10)))
    assert ladder_lines(summarize(store)).note() == ""
    page = write_report(store).store.storage.read_text("report/report.html") or ""
    assert "joins the rungs" not in page
    assert "Hollow marks" not in page
    assert ">rung</th>" not in page


def test_the_files_carry_rung_branch_and_the_parts_of_a_cut(fill, ladder):
    store = write_report(fill(ladder("a"))).store
    rows = json.loads(store.storage.read_text("report/front.json"))["front"]
    parts = ("candidate", "step", "rung", "branch_steps", "cut", "cut_basis", "cut_allocation", "cut_unit", "cut_size")
    assert [[row[part] for part in parts] for row in rows[:3]] == [
        ["80r1", 80, 2, 4, "r1", "svd", "uniform", "mean_rank", 1.0],
        [f"80{SHARED.name}", 80, 2, 4, SHARED.name, "whitened", "global_per_parameter", "parameters", 120.0],
        ["80", 80, 2, 4, None, None, None, None, None],
    ]
    lines = list(csv.DictReader(io.StringIO(store.storage.read_text("report/candidates.csv"))))
    assert [(line["candidate"], line["rung"], line["cut_size"]) for line in lines[-2:]] == [
        ("80r1", "2", "1.0"), (f"80{SHARED.name}", "2", "120.0"),
    ]  # fmt: skip
    report = json.loads(store.storage.read_text("report/report.json"))
    assert (report["cost"]["num_trainings"], report["cost"]["device_seconds"]) == (1, 2.0)
    assert report["trainings_of_several"] == {"a": 5}
    page = store.storage.read_text("report/report.html")
    assert "<p>1 training, 2.0 s of training over all devices" in page
    assert "5 of 5 points on the front share training a." in page
    assert 'title="cut to rank 1, by svd, allocation uniform">2/2 cut</td>' in page


def test_the_table_fits_and_has_every_name_whole(fill, ladder):
    store = fill(ladder("0123456789abcdef"))
    console = Console(file=io.StringIO(), width=80)
    console.print(overview(summarize(store)))
    text = console.file.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    rows = [line.split()[-3:] for line in text.splitlines() if "±" in line and "0123456789abcdef " in line]
    assert rows == [
        ["2/2", "cut", "80r1"], ["cut", "80", "a"], ["0123456789abcdef", "2/2", "80"],
        ["0123456789abcdef", "1/2", "60"], ["0123456789abcdef", "trunk", "40"],
    ]  # fmt: skip
    assert f"Cuts on the front, by name:\n  a: 0123456789abcdef@80{SHARED.name}\n5 of 5 points" in text.replace(
        " \n", "\n"
    )


def test_cuts_of_one_step_are_told_apart_by_letters(fill, record, candidate):
    cuts = [candidate(0.5 + i / 1000, 100 + i, 80, cut=SHARED.model_copy(update={"size": 100 + i})) for i in range(28)]
    console = Console(file=io.StringIO(), width=80)
    console.print(overview(summarize(fill(record("a", candidate(0.9, 1000, 80), *cuts)))))
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    for letter, size in (("a", 100), ("b", 101), ("z", 125), ("aa", 126), ("ab", 127)):
        assert f"{letter}: a@80-whitened-global_per_parameter-parameters-{size}" in lines
        assert sum(line.endswith(f" cut 80 {letter}") and f" {size} " in line for line in lines) == 1


def test_every_candidate_is_found_by_the_name_that_is_shown(fill, ladder):
    store = fill(ladder("abc"), ladder("abd", 0.1))
    for point in summarize(store).points:
        assert find_candidate(store, point.name)[1] == point.candidate
    assert find_candidate(store, "abc")[1].name == "80"
    assert find_candidate(store, f"abc@80{SHARED.name}")[1].cut == SHARED


def test_how_it_was_made_in_words(ladder, record, candidate, cut):
    trained = ladder("a")
    assert [rung_text(trained, one) for one in trained.candidates] == ["trunk", "1/2", "2/2", "2/2 cut", "2/2 cut"]
    said = [made_text(trained, one) for one in trained.candidates]
    assert said[0] == ("the trunk of a ladder of 2 (made by a branch of 8 steps in which the learning rate fell)")
    assert said[4] == (
        "cut without training from rung 2 of a ladder of 2 (made by a branch of 4 steps in which the learning rate "
        "fell) (`a@80`, 200 parameters) to at most 120 parameters, by whitened, allocation global_per_parameter"
    )
    plain = record("b", candidate(), candidate(cut=cut(4)))
    assert [rung_text(plain, one) for one in plain.candidates] == ["", "cut"]
    assert [made_text(plain, one) for one in plain.candidates] == [
        "",
        "cut without training from step 10 (`b@10`, 100 parameters) to rank 4, by svd, allocation uniform",
    ]
    kept = Cut(basis="svd", allocation="global", unit="kept", size=0.25)
    assert "to 25% of what there was at the start" in made_text(plain, candidate(cut=kept))
