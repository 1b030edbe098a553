"""A store whose training began from an adapter: that one is the reference of every table, chart and sentence."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from rich.console import Console

from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.original import Beside, origins, short_name
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.analysis.yardstick import comparisons, warning
from prunedlora.results.comparison.compare import run_comparison
from prunedlora.results.record import BaseReference, Cut, ExampleOutcomes, Figure
from prunedlora.results.report.chart_style import ORIGINAL_LOOKS
from prunedlora.results.report.front_chart import front_chart
from prunedlora.results.report.front_png import front_png, legend_columns
from prunedlora.results.report.original_table import MOST_ROWS, MOST_TABLES, made_word, original_tables
from prunedlora.results.report.overview import overview
from prunedlora.results.report.report import write_report
from prunedlora.results.report.verdict import sentences
from prunedlora.results.store import Store

NUM = 400
NAME = "some/adapter"
FACTS = {"start_from": NAME, "sha256": "0123456789abcdef" * 4, "config_sha256": "f" * 64}
TRIAL = {"adapter": {"method": "prunedlora", "start_from": NAME}, "training": {"num_steps": 80}, "seed": 0}
LADDER = {"name": "ladder", "trunk": 0, "rungs": {"parameters": [500, 100], "mean_rank": None, "kept": None}}
UNTRAINED = TRIAL | {"training": {"num_steps": 0}}
SHARED = {"basis": "svd", "allocation": "global_per_parameter", "unit": "parameters"}


def right(wrong, first=0):
    """Scores of examples, of which `wrong` are wrong, from `first` on."""
    return np.array([not first <= place < first + wrong for place in range(NUM)], dtype=np.float64)


def figure_of(scores):
    return Figure(value=scores.mean(), stderr=scores.std(ddof=1) / NUM**0.5, num_examples=NUM)


@pytest.fixture
def began(tmp_path, sweep, record, candidate):
    """began({key: [(scores, params, step, cut, rung)]}, config): a store of trainings that began with NAME."""

    numbers = itertools.count()

    def make(trainings, config=TRIAL, outcomes=True, **fields):
        records = []
        for key, made in trainings.items():
            candidates = [
                candidate(
                    params=params, step=step, cut=cut, rung=rung, train_seconds=float(step),
                    figures={"accuracy": figure_of(scores), "loss": Figure(value=0.5, stderr=0.1, num_examples=NUM)},
                )
                for scores, params, step, cut, rung in made
            ]  # fmt: skip
            found = record(key, *candidates, config=config, train_seconds=float(made[-1][2]))
            environment = found.environment.model_copy(update={"model": {"name": "m", "adapter": FACTS}})
            records.append(found.model_copy(update={"environment": environment}))
        store = Store(str(tmp_path / f"store{next(numbers)}"))
        store.create_or_open(sweep | fields)
        for found in records:
            store.write_record(found, driver_epoch=1)
        for found, made in zip(records, trainings.values(), strict=True):
            for one, (scores, *_) in zip(found.candidates, made, strict=True) if outcomes else ():
                given = ExampleOutcomes(
                    loss_sums=(0.5,) * NUM, num_targets=(1,) * NUM, scores={"accuracy": tuple(scores)}
                )
                store.write_outcomes(found.key, one.name, given)
        return store

    return make


def cut_to(params):
    return Cut(size=params, **SHARED)


TRAINED = [
    (right(8), 1230, 0, None, 0),
    (right(12, 4), 500, 0, cut_to(500), 0),
    (right(60, 4), 100, 0, cut_to(100), 0),
    (right(8, 2), 500, 40, None, 1),
    (right(9, 2), 100, 80, None, 2),
]
"""An original, cuts of it, and rungs trained on from it, at the same two sizes."""
CUTS = TRAINED[:3]


@pytest.fixture
def shrunk(began):
    return began({"a": TRAINED}, TRIAL | {"pruning": {"schedule": LADDER}})


def printed(renderable):
    console = Console(file=io.StringIO(), width=80)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(("base", "warned"), [(0.97, True), (0.985, True), (0.9, False)])
def test_an_original_that_works_no_better_than_the_base_is_told_first(shrunk, base, warned):
    figure = Figure(value=base, stderr=0.008, num_examples=NUM)
    shrunk.write_base(BaseReference(figures={"accuracy": figure}))
    summary = summarize(shrunk)
    first = warning(summary, summary.recommended)
    assert first.startswith("WARNING: the adapter that it began with (some/adapter) is not clearly better") == warned
    assert (f"accuracy 0.980 ± 0.007 against {base:.3f} ± 0.008" in first) == warned


def test_what_was_trained_on_is_said_to_be(shrunk, began):
    said = " ".join(comparisons(summarize(shrunk)))
    assert "It was trained on for 80 steps, which the original was not." in said
    assert "trained on" not in " ".join(comparisons(summarize(began({"a": CUTS}, UNTRAINED))))


def test_the_error_of_a_difference_is_that_of_the_pairs(shrunk, began):
    summary = summarize(shrunk)
    assert [point.name for point in summary.originals.values()] == ["a@0"]
    assert summary.beside.keys() == {point.name for point in summary.points} - {"a@0"}
    beside = summary.beside["a@40"]
    apart = right(8, 2) - right(8)  # by hand: 2 examples the better, 2 the worse
    assert (beside.times_smaller, beside.difference, beside.paired) == (2.46, pytest.approx(0.0), True)
    assert beside.stderr == pytest.approx(apart.std() / NUM**0.5, rel=0.06)
    assert beside.stderr < 0.6 * figure_of(right(8)).stderr * 2**0.5  # what independent errors would give
    without = summarize(began({"a": TRAINED}, outcomes=False)).beside["a@40"]
    assert not without.paired
    assert without.stderr == pytest.approx(figure_of(right(8)).stderr * 2**0.5, rel=0.06)


@pytest.mark.parametrize(
    ("beside", "quality", "text"),
    [
        (Beside(12.3, -0.0031, 0.004, True), "accuracy", "Δ −0.3 ± 0.4 points, paired"),
        (Beside(12.3, 0.0, 0.0, True), "accuracy", "Δ 0.0 points, paired, alike on every example"),
        (Beside(12.3, -0.0001, 0.002, True), "accuracy", "Δ 0.0 ± 0.2 points, paired"),
        (Beside(None, 0.02, None, False), "accuracy", "Δ +2.0 points, not paired"),
        (Beside(2.0, 0.0123, 0.0045, True), "loss", "Δ +0.0123 ± 0.0045, paired"),
    ],
)
def test_a_difference_in_words(beside, quality, text):
    assert beside.difference_text(quality) == text
    assert beside.times_text == ("" if beside.times_smaller is None else f"{beside.times_smaller:g}×")


def test_the_recommended_one_stands_beside_the_original_in_one_sentence(shrunk):
    summary = summarize(shrunk)
    assert summary.recommended.name == "a@80"
    sentence, best = comparisons(summary)
    beside = summary.beside["a@80"]
    assert sentence == (
        "12.3× smaller than the adapter that it began with (some/adapter, accuracy 0.980 ± 0.007), "
        f"{beside.difference_text('accuracy')}. It was trained on for 80 steps, which the original was not. Nobody "
        "chose the original on these examples, but this one was chosen: expect a little less of it."
    )
    assert "Δ −0.2 ± 0." in sentence
    assert best == "5× smaller than the best (accuracy 0.980 ± 0.007)."
    assert sentence in " ".join(printed(overview(summary)).split())


def test_an_original_that_nothing_smaller_comes_near_is_recommended_itself(began):
    summary = summarize(began({"a": [CUTS[0], CUTS[2]]}, UNTRAINED))
    assert summary.recommended.candidate.is_original
    assert comparisons(summary) == [
        "It is the adapter that it began with, some/adapter, as it came: nothing smaller is at most 0.01 worse than "
        "the best, which it is itself."
    ]
    found = decide(summary)
    assert found.recommended.point.name == found.best.point.name == "a@0"
    other = [(right(9), 1230, 0, None, 0), (right(6), 1200, 40, None, 1)]
    better = summarize(began({"b": other}, recommend_within=0.0))
    assert better.recommended.name == "b@40"
    assert "None measured better" not in comparisons(better)[0]
    assert "None measured better" in comparisons(summarize(began({"c": CUTS[:2]}, recommend_within=0.02)))[0]


def test_an_original_is_named_beside_a_larger_best_of_another_training(began):
    """Nothing of its own training is larger, but of another one's."""
    second = [(right(9), 1200, 0, None, 0)]
    summary = summarize(began({"a": [(right(8), 1230, 0, None, 0)], "b": second}))
    assert summary.recommended.name == "b@0"
    assert comparisons(summary)[0].endswith("than the best (a@0, accuracy 0.980 ± 0.007).")


def test_cuts_and_rungs_of_one_size_stand_together_in_the_table(shrunk):
    summary = summarize(shrunk)
    (table,) = original_tables(summary).tables
    assert [(point.name, made_word(point)) for point, _ in table.rows] == [
        (f"a@0{cut_to(500).name}", "cut"), ("a@40", "1/2 trained on"),
        (f"a@0{cut_to(100).name}", "cut"), ("a@80", "2/2 trained on"),
    ]  # fmt: skip
    text = printed(overview(summary))
    assert all(len(line) <= 80 for line in text.splitlines())
    title = "Trial a beside the adapter that it began with, some/adapter (sha256"
    assert f"{title} 0123456789ab…):" in text.replace("\n", "")
    rows = [line.split() for line in text[text.index(title) :].splitlines() if "±" in line]
    assert rows[0] == ["1,230", "0.980", "±", "0.007", "original", "0"]
    assert rows[1][:2] + rows[1][-3:] == ["500", "2.46×", "cut", "0", "a"]
    assert rows[4][:3] + rows[4][-4:] == ["→", "100", "12.3×", "2/2", "trained", "on", "80"]
    assert f"Cuts, by name:\n  a: a@0{cut_to(500).name}\n  b: a@0{cut_to(100).name}\n" in text.replace(" \n", "\n")


def test_of_many_cuts_those_that_another_beats_have_no_row(began):
    many = [(right(20 + i % 2 * (i + 30)), 1000 - i, 0, cut_to(1000 - i), 0) for i in range(MOST_ROWS + 1)]
    found = original_tables(summarize(began({"a": [TRAINED[0], *many]}, UNTRAINED)))
    (table,) = found.tables
    assert [point.size for point, _ in table.rows] == [970]
    assert found.note() == "Not shown, but in candidates.csv: 30 cuts that another cut beats."
    several = original_tables(summarize(began({f"k{i}": CUTS for i in range(MOST_TABLES + 2)}, UNTRAINED)))
    assert [len(several.tables), several.note()] == [3, "Not shown, but in candidates.csv: 2 further trainings."]


def test_charts_have_the_original_as_a_mark_of_its_own_and_a_line(shrunk):
    summary = summarize(shrunk)
    label = "the adapter that it began with: some/adapter"
    mark, line = [trace for trace in front_chart(summary, []).data if trace.name == label]
    assert (mark.marker.symbol, mark.x.tolist(), mark.y.tolist()) == (ORIGINAL_LOOKS[0].symbol, [1230], [0.98])
    assert (line.mode, line.line.dash, line.y, line.showlegend) == ("lines", "dashdot", (0.98, 0.98), False)
    others = [trace for trace in front_chart(summary, []).data if trace.mode == "markers" and trace.name != label]
    assert sorted(x for trace in others if trace.name != "recommended" for x in trace.x) == [100, 100, 500, 500]
    assert front_png(summary).startswith(b"\x89PNG")
    (origin,) = origins(summary.originals)
    assert [point.name for point in origin.points] == ["a@0"]
    assert short_name("/a/long/" + "x" * 40) == "…" + "x" * 39


def test_the_legend_of_the_picture_has_as_many_columns_as_fit():
    short = ["prunedlora", "recommended", "base model, untrained", "front"]
    assert [legend_columns(short), legend_columns([*short, "x" * 60]), legend_columns(["x" * 60] * 3)] == [4, 2, 1]


def test_the_files_say_which_is_the_original_and_how_far_each_is_from_it(shrunk):
    store = write_report(shrunk).store
    report = json.loads(store.storage.read_text("report/report.json"))
    (original,) = report["originals"]
    assert (original["name"], original["sha256"], original["candidate"]) == (NAME, FACTS["sha256"], "0")
    assert (original["is_original"], original["accuracy"], original["adapter_params"]) == (True, 0.98, 1230)
    assert (report["recommended"]["times_smaller_than_original"], report["recommended"]["is_original"]) == (12.3, False)
    lines = list(csv.DictReader(io.StringIO(store.storage.read_text("report/candidates.csv"))))
    assert [line["is_original"] for line in lines] == ["True"] + ["False"] * 4
    assert [line["times_smaller_than_original"] for line in lines] == ["", "2.46", "12.3", "2.46", "12.3"]
    assert float(lines[4]["difference_from_original"]) == pytest.approx(-0.0025)
    assert {line["difference_from_original_paired"] for line in lines[1:]} == {"True"}
    assert lines[0]["difference_from_original_stderr"] == ""
    front = list(csv.DictReader(io.StringIO(store.storage.read_text("report/front.csv"))))
    assert front[0]["times_smaller_than_original"] == "12.3"


def test_the_page_opens_with_the_original_and_says_who_was_chosen(shrunk):
    page = write_report(shrunk).store.storage.read_text("report/report.html")
    text = " ".join(page.split())
    assert "12.3× smaller than the adapter that it began with (some/adapter, accuracy 0.980 ± 0.007), Δ −0.2" in text
    assert "Trial a beside the adapter that it began with, some/adapter (sha256 0123456789ab…), which is the" in text
    assert "<td>2/2 trained on ← recommended</td>" in text
    assert '">cut</td> <td class="name long">0-svd-global_per_parameter-parameters-100</td>' in text
    assert "<strong>Nobody chose the original.</strong>" in text
    assert "Nothing was trained" not in text


def test_without_an_original_nothing_is_said_of_one(fill, record, candidate):
    store = write_report(fill(record("a", candidate(0.9, 100, 0), candidate(0.8, 50, 10)))).store
    page = store.storage.read_text("report/report.html")
    assert "began with" not in page
    assert "Nobody chose" not in page
    assert ">smaller</th>" not in page
    assert json.loads(store.storage.read_text("report/report.json"))["originals"] == []


def test_what_took_no_step_is_called_untrained(began):
    store = began({"a": CUTS}, UNTRAINED, recommend_within=0.02)
    summary = write_report(store)
    text = " ".join(printed(overview(summary)).split())
    assert "Cost: 1 trial without training." in text
    assert "3 of 3 points on the front are of trial a: one adapter and its cuts, none trained here." in text
    page = " ".join(summary.store.storage.read_text("report/report.html").split())
    assert "Nothing was trained.</strong>" in page
    assert "<p>1 trial without training." in page
    said = "Trial a measured and cut one adapter and trained nothing"
    assert said in " ".join(sentences(decide(summary), summary))
    assert said in page
    assert "prunedlora confirm" not in page


def test_trainings_and_trials_without_are_counted_apart(began):
    mixed = began({"a": TRAINED})
    for each in began({"b": CUTS}, UNTRAINED).records():
        mixed.write_record(each, 1)
    assert "Cost: 1 training and 1 trial without, 1.3 min of training over all devices" in " ".join(
        printed(overview(summarize(mixed))).split()
    )


def test_stores_with_originals_are_compared(began, store_of):
    stores = [began({"a": CUTS}, UNTRAINED).uri, store_of("other", {100: 20, 1230: 9}).uri]
    console = Console(file=io.StringIO(), width=100)
    asked = {"names": ["cuts", "other"], "by": None, "against": None, "within": 0.02, "confidence": 0.95, "to": None}
    run_comparison(stores, console, **asked, as_json=False)
    assert "cuts cost 1 trial without training." in " ".join(console.file.getvalue().split())
