"""Figures of all classes together in comparisons: computed anew for every draw of examples, the same for all."""

from pathlib import Path

import numpy as np
import pytest

from prunedlora.corpus_figures import CORPUS_FIGURES, corpus_stderr, corpus_value, largest_step
from prunedlora.results.analysis.confidence import draw_examples, interval_of
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.example_errors import example_errors, paired_errors, step_of_one
from prunedlora.results.analysis.pareto import Objectives, points
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import ExampleOutcomes, Figure
from prunedlora.results.report.report import write_report

N = 120
NAMES = sorted(CORPUS_FIGURES)


def outcomes_of(true, predicted):
    right = tuple(map(float, true == predicted))
    classes = {"true_classes": tuple(map(int, true)), "predicted_classes": tuple(map(int, predicted))}
    return ExampleOutcomes(loss_sums=(0.5,) * N, num_targets=(1,) * N, scores={"accuracy": right}, **classes)


def spoilt(true, count, draw):
    """The classes with `count` of them wrong."""
    given = true.copy()
    places = draw.permutation(N)[:count]
    given[places] = (given[places] + 1) % 3
    return given


@pytest.fixture
def sample():
    draw = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], [80, 30, 10])
    return true, [spoilt(true, count, draw) for count in (10, 14, 40)]


@pytest.fixture
def store_with(sample, fill, record, candidate):
    """Three candidates, ever larger and better, and what was recorded of them; `known`: whose classes are on record."""

    def make(name, known=(True, True, True)):
        true, predictions = sample
        records = []
        for i, given in enumerate(reversed(predictions)):
            value, stderr = corpus_value(name, true, given), corpus_stderr(name, true, given)
            figure = Figure(value=value, stderr=stderr, num_examples=N)
            records.append(record(f"k{i}", candidate(params=100 * (i + 1), figures={name: figure})))
        store = fill(*records, objectives={name: "maximize", "adapter_params": "minimize"})
        for one, given, is_known in zip(records, reversed(predictions), known, strict=True):
            outcomes = outcomes_of(true, given)
            gone = {"true_classes": None, "predicted_classes": None}
            store.write_outcomes(one.key, "10", outcomes if is_known else outcomes.model_copy(update=gone))
        return store, records

    return make


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_the_figure_of_each_draw_for_all_candidates_alike(name, sample):
    true, predictions = sample
    found = paired_errors([outcomes_of(true, one) for one in predictions], name, np.random.default_rng(3), 40)
    (counts,) = draw_examples(N, np.random.default_rng(3), 40)
    for row, drawn in zip(found, counts.astype(int), strict=True):
        picks = np.repeat(np.arange(N), drawn)
        for error, given in zip(row, predictions, strict=True):
            expected = corpus_value(name, true[picks], given[picks]) - corpus_value(name, true, given)
            assert error == pytest.approx(expected, abs=1e-12)


def test_the_spread_is_the_jackknife_s_and_pairs_move_together(sample):
    true, predictions = sample
    errors = paired_errors([outcomes_of(true, one) for one in predictions], "macro_f1", np.random.default_rng(0), 3000)
    for column, given in zip(errors.T, predictions, strict=True):
        assert column.std() == pytest.approx(corpus_stderr("macro_f1", true, given), rel=0.15)
    same = paired_errors([outcomes_of(true, predictions[0])] * 2, "matthews", np.random.default_rng(0), 50)
    np.testing.assert_array_equal(same[:, 0], same[:, 1])


def test_whose_classes_are_not_on_record_is_drawn_from_its_standard_error_and_that_is_said(store_with):
    store, records = store_with("matthews", known=(True, False, True))
    objectives = Objectives.parse({"matthews": "maximize", "adapter_params": "minimize"})
    found = points(records, objectives)
    errors = example_errors(store, found, np.arange(3), objectives, np.random.default_rng(0), 4000)
    assert [point.key for point in errors.without_outcomes] == ["k1"]
    assert errors.draws[:, 1].std() == pytest.approx(found[1].quality.stderr, rel=0.05)
    assert abs(np.corrcoef(errors.draws[:, 1], errors.draws[:, 2])[0, 1]) < 0.05
    assert "no outcomes by example are on record: their errors were taken for independent" in errors.caveats()[0]
    caveats = decide(summarize(store), within=0.5).caveats
    assert "k1" in caveats[0]


def test_other_classes_for_the_same_examples_are_no_pairs(store_with, sample):
    store, records = store_with("macro_f1")
    true, predictions = sample
    store.write_outcomes("k0", "10", outcomes_of(np.roll(true, 1), predictions[2]))
    objectives = Objectives.parse({"macro_f1": "maximize", "adapter_params": "minimize"})
    found = points(records, objectives)
    errors = example_errors(store, found, np.arange(3), objectives, np.random.default_rng(0), 50)
    assert [point.key for point in errors.on_other_data] == ["k0"]


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_is_recommended_with_a_bound_that_knows_the_classes(name, store_with, sample):
    store, _ = store_with(name)
    found = decide(summarize(store), within=0.9)
    assert found.caveats == ()
    rival = found.standings["k1@10"]
    # A rare class weighs as much as a frequent one: one example more may change more than 1 / N.
    true, predictions = sample
    step = step_of_one(found.best.point, outcomes_of(true, predictions[0]), name)
    assert step == largest_step(name, true, predictions[0])
    assert rival.shortfall + 2 * step < rival.bound < 0.9
    assert (step > 3 / N) == (name == "balanced_accuracy")


def test_what_a_step_is_where_nothing_is_on_record(store_with):
    _, records = store_with("matthews")
    (point, *_) = points(records, Objectives.parse({"matthews": "maximize", "adapter_params": "minimize"}))
    assert step_of_one(point, None, "matthews") == 1 / N
    assert step_of_one(point, None, "loss") == 0.0


def test_intervals_stay_within_what_the_figure_can_be_and_below_0_for_matthews():
    def of(name, value, stderr):
        return interval_of(name, Figure(value=value, stderr=stderr, num_examples=N), 0.95)

    np.testing.assert_allclose(of("matthews", -0.2, 0.1), (-0.396, -0.004), atol=1e-3)
    assert of("matthews", -0.9, 0.1)[0] == -1.0
    assert of("balanced_accuracy", 0.1, 0.1)[0] == 0.0
    assert of("macro_f1", 0.95, 0.1)[1] == 1.0
    assert of("macro_f1", 1.0, 0.0) is None  # nothing says how rare its classes are
    assert of("harness/task/perplexity", 12.0, 1.0) is None  # no score: what a rare document may add is not known


def test_a_sweep_of_negative_figures_has_a_page(fill, record, candidate):
    figures = [Figure(value=value, stderr=0.05, num_examples=N) for value in (-0.3, -0.1)]
    records = [record(f"k{i}", candidate(params=100 * (i + 1), figures={"matthews": f})) for i, f in enumerate(figures)]
    store = fill(*records, objectives={"matthews": "maximize", "adapter_params": "minimize"})
    summary = summarize(store)
    assert (summary.hypervolume, [point.key for point in summary.front]) == (0.0, ["k0", "k1"])
    write_report(store)
    assert "matthews" in (Path(store.uri) / "report" / "report.html").read_text()
