"""Stores and groups side by side: what is sure, what is not, what cannot be compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from prunedlora.corpus_figures import corpus_stderr, corpus_value
from prunedlora.results.analysis.pareto import points, reference
from prunedlora.results.comparison.fronts import compare
from prunedlora.results.comparison.groups import ComparisonError, differing, groups_by, groups_of_stores
from prunedlora.results.comparison.words import notes
from prunedlora.results.record import BaseReference, ExampleOutcomes, Figure, RecordError
from prunedlora.results.store import Store

N = 400  # as store_of has it


def compared(*stores: Store, names=None, within=0.02, confidence=0.95, against=None):
    groups = groups_of_stores(stores, names, within)
    return compare(groups, within=within, confidence=confidence, against=against)


def test_a_front_that_is_better_at_large_sizes_only(store_of):
    old = store_of("old", {100: 60, 1000: 60})
    new = store_of("new", {100: 60, 1000: 20})
    found = compared(old, new)
    (contrast,) = found.contrasts
    assert [group.name for group in found.groups] == ["old", "new"]
    assert contrast.common == (100, 1000)
    assert contrast.verdict == "mixed"
    assert [(one.size, one.verdict) for one in contrast.matched] == [(100, "equal"), (1000, "better")]
    last = contrast.matched[-1]
    assert last.difference == pytest.approx(0.1)
    assert 0 < last.low < 0.1 < last.high
    assert (last.group_choices, last.control_choices, last.paired) == (2, 2, True)


def test_the_table_has_the_recommended_sizes_and_the_ends_of_the_common_range(store_of):
    old = store_of("old", {10: 200, 100: 60, 10_000: 59})
    new = store_of("new", {100: 61, 1000: 20, 100_000: 19})
    (contrast,) = compared(old, new).contrasts
    assert contrast.common == (100, 10_000)
    assert {one.size for one in contrast.budgets} == {100, 1000, 10_000}
    assert [one.verdict for one in contrast.matched] == ["equal", "better", "better"]


def test_swapped_stores_give_the_opposite_statement(store_of):
    old, new = store_of("old", {100: 60, 1000: 50}), store_of("new", {100: 30, 500: 31})
    one, other = compared(old, new).contrasts[0], compared(old, new, against="new").contrasts[0]
    assert other.group.name == "old"
    for ours, theirs in zip(one.matched, other.matched, strict=True):
        assert ours.difference == -theirs.difference
        assert (ours.low, ours.high) == pytest.approx((-theirs.high, -theirs.low), abs=2e-3)
    assert (one.verdict, other.verdict) == ("better", "worse")


def test_pairs_tell_what_independent_errors_do_not(store_of):
    wrong = {100: 36, 1000: 36}, {100: 22, 1000: 22}  # the same examples, and 14 more
    paired = compared(store_of("a", wrong[0]), store_of("b", wrong[1])).contrasts[0].matched[0]
    assert (paired.paired, paired.verdict) == (True, "better")
    for folder, fields in (("c", {"outcomes": False}), ("d", {"data": "other"})):
        alone = compared(store_of(f"{folder}1", wrong[0]), store_of(f"{folder}2", wrong[1], **fields)).contrasts[0]
        assert (alone.matched[0].paired, alone.matched[0].verdict) == (False, "unknown")
        assert alone.same_data == (folder == "c")
        assert alone.matched[0].high - alone.matched[0].low > paired.high - paired.low
    (elsewhere,) = compared(store_of("e", wrong[0]), store_of("f", wrong[1], first=200)).contrasts
    assert elsewhere.matched[0].verdict == "unknown"  # other examples are wrong: pairs say so


def test_equal_stores_are_equal_within_the_margin_and_unknown_below_it(store_of):
    old, new = store_of("old", {100: 20}), store_of("new", {100: 20})
    assert compared(old, new, within=0.02).contrasts[0].matched[0].verdict == "equal"
    assert compared(old, new, within=0.001).contrasts[0].matched[0].verdict == "unknown"


def test_the_luck_of_many_is_paid_for_by_those_who_had_it(store_of):
    one, many = store_of("one", {100: 20}), store_of("many", {100 - i: 22 + i for i in range(9)}, first=10)
    alone, crowded = compared(one, store_of("another", {100: 22}, first=10)), compared(one, many)
    assert alone.critical_values == pytest.approx((1.96, 1.96), abs=0.15)
    down, up = crowded.critical_values
    assert down > up + 0.1  # claims for the many are discounted, not those for the one
    assert up == pytest.approx(1.96, abs=0.15)
    assert (alone.num_running, crowded.num_running) == (2, 10)


def test_hypervolumes_share_the_reference_of_all_candidates(store_of):
    old, new = store_of("old", {100: 40}), store_of("new", {100: 80, 200: 40})
    found = compared(old, new)
    together = reference(points([*old.records(), *new.records()], found.objectives), found.objectives, None)
    assert found.reference == together
    assert found.hypervolumes == pytest.approx((0.9 * 120, 0.8 * 120 + 0.1 * 20))


def test_a_loss_is_measured_from_the_worst_base_model(store_of, record, candidate, sweep):
    stores = []
    for name, base in (("a", 2.0), ("b", 3.0)):
        store = store_of(name, {}, objectives={"loss": "minimize", "adapter_params": "minimize"})
        store.write_record(record("k", candidate(0.5, 100)), 1)
        store.write_base(BaseReference(figures={"loss": Figure(value=base, stderr=0.1, num_examples=400)}))
        stores.append(store)
    found = compared(*stores)
    assert found.reference.quality == 3.0
    assert "of the worst base model" in found.reference.rule
    stores[0].write_base(stores[1].read_base())
    assert "of the base model" in compared(*stores).reference.rule
    assert found.hypervolumes[0] == pytest.approx(2.5 * 10)


def test_losses_are_gains_with_their_sign_turned_and_need_equal_targets(store_of, record, candidate):
    rng = np.random.default_rng(0)
    sums, targets = rng.random(N), rng.integers(1, 5, N)
    stores = [store_of(name, {}, objectives={"loss": "minimize", "adapter_params": "minimize"}) for name in ("a", "b")]
    for store, shift in zip(stores, (0.1, 0.0), strict=True):
        figure = Figure(value=float((sums + shift).sum() / targets.sum()), stderr=0.02, num_examples=N)
        store.write_record(record("k", candidate(params=100, figures={"loss": figure})), 1)
        outcomes = ExampleOutcomes(loss_sums=tuple(sums + shift), num_targets=tuple(map(int, targets)), scores={})
        store.write_outcomes("k", "10", outcomes)
    at = compared(*stores).contrasts[0].matched[0]
    assert (at.verdict, at.paired) == ("better", True)
    assert at.difference == pytest.approx(0.1 * N / targets.sum())
    assert at.high - at.low < 0.01  # every example is off by the same: known nearly exactly
    stores[1].write_outcomes("k", "10", outcomes.model_copy(update={"num_targets": (9, *outcomes.num_targets[1:])}))
    with pytest.raises(ComparisonError, match="count different numbers of targets in the same examples"):
        compared(*stores)


def test_figures_of_all_classes_are_computed_anew_and_need_equal_classes(store_of, record, candidate):
    true = np.arange(N) % 4
    objectives = {"macro_f1": "maximize", "adapter_params": "minimize"}
    stores = [store_of(name, {}, objectives=objectives) for name in ("a", "b")]
    for store, wrong in zip(stores, (0, 60), strict=True):
        given = np.where(np.arange(N) < wrong, (true + 1) % 4, true)
        value, stderr = corpus_value("macro_f1", true, given), corpus_stderr("macro_f1", true, given)
        figure = Figure(value=value, stderr=stderr, num_examples=N)
        store.write_record(record("k", candidate(params=100, figures={"macro_f1": figure})), 1)
        classes = {"true_classes": tuple(map(int, true)), "predicted_classes": tuple(map(int, given))}
        outcomes = ExampleOutcomes(loss_sums=(0.5,) * N, num_targets=(1,) * N, scores={}, **classes)
        store.write_outcomes("k", "10", outcomes)
    at = compared(*stores).contrasts[0].matched[0]
    assert (at.verdict, at.paired) == ("worse", True)
    assert at.difference == pytest.approx(value - 1)
    assert at.high - at.low == pytest.approx(2 * 1.96 * stderr, rel=0.2)
    stores[1].write_outcomes("k", "10", outcomes.model_copy(update={"true_classes": outcomes.predicted_classes}))
    with pytest.raises(ComparisonError, match="have different classes for the same examples: their figures are not co"):
        compared(*stores)


def test_a_figure_without_outcomes_by_example_is_taken_for_independent(store_of, record, candidate):
    """As of lm-evaluation-harness: outcomes are on record, and nothing of this figure in them."""
    name = "harness/task/acc"
    stores = [store_of(one, {}, objectives={name: "maximize", "adapter_params": "minimize"}) for one in ("a", "b")]
    for store, value in zip(stores, (0.5, 0.8), strict=True):
        figure = Figure(value=value, stderr=0.02, num_examples=N)
        store.write_record(record("k", candidate(params=100, figures={name: figure})), 1)
        store.write_outcomes("k", "10", ExampleOutcomes(loss_sums=(0.5,) * N, num_targets=(1,) * N, scores={}))
    found = compared(*stores)
    at = found.contrasts[0].matched[0]
    assert (at.verdict, at.paired) == ("better", False)
    assert at.high - at.low == pytest.approx(2 * 1.96 * np.hypot(0.02, 0.02), rel=0.1)
    assert "standard errors were taken for independent there" in notes(found)[0]


def test_one_rare_example_of_a_loss_may_have_been_missed_and_may_be_there_less_often(store_of, record, candidate):
    """One example costs the group 20: there might have been two of them, and there might have been none."""
    stores = [store_of(name, {}, objectives={"loss": "minimize", "adapter_params": "minimize"}) for name in ("a", "b")]
    for store, sums in zip(stores, ([1.0] * N, [21.0] + [1.0] * (N - 1)), strict=True):
        figure = Figure(value=sum(sums) / N, stderr=0.05, num_examples=N)
        store.write_record(record("k", candidate(params=100, figures={"loss": figure})), 1)
        store.write_outcomes("k", "10", ExampleOutcomes(loss_sums=tuple(sums), num_targets=(1,) * N, scores={}))
    down, up = compared(*stores, confidence=0.99).critical_values
    assert 2.9 < up < 4.3  # four or five copies among the draws, of a number with mean and spread 1
    assert up < down < 6.5  # none of them, and -log(0.005) = 5.3 more that were not seen


def test_sizes_that_do_not_overlap_are_compared_at_the_recommended_ones(store_of):
    small, large = store_of("small", {10: 100, 20: 80}), store_of("large", {1000: 20, 2000: 15})
    (contrast,) = compared(small, large).contrasts
    assert contrast.common is None
    assert [(one.size, one.control.size, one.verdict) for one in contrast.budgets] == [(1000, 20, "better")]


def test_empty_adapters_have_no_place_on_a_logarithm_but_are_compared(store_of):
    old, new = store_of("old", {0: 200, 100: 60}), store_of("new", {0: 200, 100: 20, 200: 20})
    (contrast,) = compared(old, new).contrasts
    assert contrast.common == (0, 100)
    assert [(one.size, one.verdict) for one in contrast.matched] == [(0, "equal"), (100, "better")]


def test_one_example_says_nothing(store_of, record, candidate):
    old, new = store_of("old", {100: 10}), store_of("new", {})
    figures = {"accuracy": Figure(value=1.0, stderr=None, num_examples=1)}
    new.write_record(record("k", candidate(params=100, figures=figures)), 1)
    with pytest.raises(ComparisonError, match="new: k@10 was scored on 1 validation example"):
        compared(old, new)


def test_the_same_stores_give_the_same_answer(store_of):
    stores = [store_of("old", {100: 60, 1000: 20}), store_of("new", {100: 30, 300: 21}, first=5)]
    one, other = compared(*stores), compared(*stores)
    assert [c.matched for c in one.contrasts] == [c.matched for c in other.contrasts]
    assert one.critical_values == other.critical_values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": -0.1}, "within must be at least 0 and finite, got -0.1"),
        ({"within": float("inf")}, "within must be at least 0 and finite, got inf"),
        ({"within": float("nan")}, "within must be at least 0"),
        ({"confidence": 1.0}, "confidence must lie in"),
        ({"against": "older"}, "against 'older': there are 'old', 'new'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, store_of):
    groups = groups_of_stores([store_of("old", {100: 20}), store_of("new", {100: 20})], None, 0.01)
    with pytest.raises(ComparisonError, match=message):
        compare(groups, **({"within": 0.01, "confidence": 0.95} | options))
    with pytest.raises(ComparisonError, match="one group alone is no comparison: old"):
        compare(groups[:1], within=0.01, confidence=0.95)


def test_names_are_the_sweeps_or_told_apart_by_their_folders(store_of):
    week, today = store_of("week", {100: 20}, name="quickstart"), store_of("today", {100: 20}, name="quickstart")
    assert [g.name for g in groups_of_stores([week, today], None, 0.01)] == ["quickstart (week)", "quickstart (today)"]
    assert [g.name for g in groups_of_stores([week, today], [" old", "new"], 0.01)] == ["old", "new"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], "the name 'a' is given twice"),
        (["a"], "2 stores need 2 names, got 'a'"),
        (["a", " "], "2 stores need 2 names, got 'a', ''"),
    ],
)
def test_names_that_do_not_tell_apart_are_refused(names, message, store_of):
    with pytest.raises(ComparisonError, match=message):
        groups_of_stores([store_of("old", {100: 20}), store_of("new", {100: 20})], names, 0.01)


def test_stores_that_cannot_be_compared_are_refused_by_name(store_of, failed, record, candidate, tmp_path):
    good = store_of("good", {100: 20})

    def refused(other: Store, message: str, error: type[Exception] = ComparisonError) -> None:
        with pytest.raises(error, match=message):
            groups_of_stores([good, other], None, 0.01)

    refused(good, "good is given twice")
    refused(store_of("empty", {}), r"empty \(.*\) has nothing to compare: no trial has finished")
    broken = store_of("broken", {})
    broken.write_record(failed("f1"), 1)
    refused(broken, "broken .* has nothing to compare: its only trial failed")
    broken.write_record(failed("f2"), 1)
    refused(broken, "all 2 trials failed")
    broken.write_record(failed("f2", candidate(params=100)), 1)
    assert [len(group.points) for group in groups_of_stores([good, broken], None, 0.01)] == [1, 1]
    bytes_ = store_of("bytes", {100: 20}, objectives={"accuracy": "maximize", "adapter_bytes": "minimize"})
    refused(bytes_, "good was swept for accuracy .maximize. and adapter_params .minimize., bytes for accuracy")
    tasks = store_of("tasks", {})
    tasks.write_record(record("k", candidate(), config={"data": {"task": "generation"}}), 1)
    classes = store_of("classes", {})
    classes.write_record(record("k", candidate(), config={"data": {"task": "text_classification"}}), 1)
    with pytest.raises(
        ComparisonError, match=r"different tasks.*generation \(tasks\), text_classification \(classes\)"
    ):
        groups_of_stores([tasks, classes], None, 0.01)
    newer = store_of("newer", {100: 20})
    path = Path(newer.uri) / "trials" / "k0" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 3}))
    refused(newer, "newer/trials/k0/record.json: schema_version 3 is newer than 2", RecordError)


def by(store: Store, field: str):
    return groups_by(store, field, 0.01)


def test_groups_of_one_store_by_setting_and_by_label(store_of, failed, record, candidate):
    settings = [
        {"config": {"adapter": {"method": "prunedlora", "initial_rank": 16}}},
        {"config": {"adapter": {"method": "prunedlora", "initial_rank": 8}}, "label": "mine"},
        {"config": {"adapter": {"method": "lora", "initial_rank": 8}}, "label": "theirs [x]"},
    ]
    store = store_of("s", {100: 20, 200: 19, 300: 18}, records=settings)
    store.write_record(record("full", candidate(0.99), config={"full": {"x": 1}}), 1)
    groups, left_out = by(store, "adapter.method")
    assert [(group.name, len(group.points)) for group in groups] == [("lora", 1), ("prunedlora", 2)]
    assert left_out == ["without adapter.method: its trials left no adapter that can stand on the axes"]
    assert [group.name for group in by(store, "adapter.initial_rank")[0]] == ["8", "16"]
    assert [group.name for group in by(store, "label")[0]] == ["mine", "theirs [x]", "without label"]
    found = compare(groups, within=0.01, confidence=0.95, against="prunedlora")
    assert [one.paired for one in found.contrasts[0].matched] == [True]
    assert differing(found.groups)["adapter.method"] == ["prunedlora", "lora"]
    assert "adapter.initial_rank" not in differing(found.groups)  # of several values in one group
    with pytest.raises(
        ComparisonError, match=r"no trial has 'adapter.rank'; settings that vary .*adapter.method.*label"
    ):
        by(store, "adapter.rank")
    with pytest.raises(ComparisonError, match=r"by full.x there are not two groups with candidates \(left out: 1: its"):
        by(store, "full.x")


def test_too_many_groups_cannot_be_read(store_of):
    labels = [{"label": f"l{i}"} for i in range(13)]
    with pytest.raises(ComparisonError, match="by label there are 13 groups, at most 12 can be read"):
        by(store_of("s", {100 + i: 20 for i in range(13)}, records=labels), "label")


def test_packages_that_changed_are_named(store_of):
    old, new = store_of("old", {100: 20}), store_of("new", {100: 20})
    (record,) = new.records()
    environment = record.environment.model_copy(update={"packages": {"torch": "2.14", "peft": "1"}})
    new.write_record(record.model_copy(update={"environment": environment}), 1)
    assert differing(groups_of_stores([old, new], None, 0.01)) == {
        "package peft": ["", "1"], "package torch": ["2.13", "2.14"]
    }  # fmt: skip


def test_half_trained_milestones_are_no_adapters_of_a_method_unless_nothing_else_is(store_of, record, candidate):
    old, new = store_of("old", {100: 30}), store_of("new", {})
    milestones = candidate(0.95, 80, step=5, progress=0.5), candidate(0.8, 70, step=6, progress=0.6, rung=0)
    new.write_record(record("k", *milestones, candidate(0.9, 90, step=10)), 1)
    found = compared(old, new)
    assert [point.name for point in found.groups[1].points] == ["k@6", "k@10"]
    assert "Half-trained milestones are no adapters of a method and are left out: 1 of new." in notes(found)
    new.write_record(record("k", milestones[0]), 1)
    found = compared(old, new)
    assert [point.name for point in found.groups[1].points] == ["k@5"]
    assert "Of new there are only half-trained milestones." in notes(found)


def test_what_each_group_cost_is_said_once_for_each_training(store_of, record, candidate):
    """And of how few trainings its candidates are."""
    ladder = store_of("ladder", {})
    figure = candidate().figures["accuracy"]
    values = [figure.model_copy(update={"value": value}) for value in (0.9, 0.89, 0.88)]
    rungs = [candidate(0, 100 - 10 * i, 10 * (i + 1), figures={"accuracy": value}) for i, value in enumerate(values)]
    ladder.write_record(record("a", *rungs), 1)
    found = compared(store_of("one", {100: 30}), ladder)
    words = " ".join(notes(found))
    assert "one cost 1 training, 2.0 s of training over all devices, 100 examples and 1,000 tokens." in words
    assert "ladder cost 1 training, 2.0 s of training over all devices, 100 examples and 1,000 tokens." in words
    assert "(candidates: 1 of one, 3 of ladder from 1 training)" in words
    assert "ladder: 3 of 3 points on the front share training a." in words
    assert "are one observation of seeds, not many." in words


def test_measurements_of_one_name_are_not_compared(store_of):
    def of(name, *metrics, **fields):
        facts = [{} if each is None else {"metric": each} for each in metrics]
        store = store_of(name, {100 * (i + 1): 20 for i in range(len(facts))}, **fields)
        for record, fact in zip(store.records(), facts, strict=True):
            environment = record.environment.model_copy(update={"data": record.environment.data | fact})
            config = {"seed": int(record.key[1:])}
            store.write_record(record.model_copy(update={"environment": environment, "config": config}), 1)
        return store

    one, other = ({"file_sha256": digest * 64, "function": "accuracy"} for digest in "ab")
    with pytest.raises(ComparisonError, match=r"of old and of new are two measurements of one name.*: file_sh"):
        compared(of("old", one), of("new", other))
    with pytest.raises(ComparisonError, match=r"file_sha256 a{60}… and b{60}…$"):
        groups_by(of("both", one, other), "seed", 0.01)
    compared(of("same", one), of("again", one), of("older", None))
