"""The one answer of a store: the smallest measured within the margin, and what is proven of it and of all others."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from prunedlora.benchmarks.product.simulated_sweep import lossy_sweep, right_or_wrong, scored_sweep
from prunedlora.results.analysis.constraints import Constraints, RequestError
from prunedlora.results.analysis.decision import MARGINS, decide
from prunedlora.results.analysis.example_errors import LOSS_EXAMPLES
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.ask import ConfirmationPlan, ConfirmedSetting
from prunedlora.results.record import ExampleOutcomes, Figure, ObjectiveError
from prunedlora.results.store import Store

N = 400


def asked(store: Store, **how):
    return decide(summarize(store), **how)


def test_the_smallest_measured_within_the_margin_is_named_with_its_bound(store_of):
    # 2 and 7 examples of 400 apart from the best the bounds are near 0.02 and 0.03.
    found = asked(store_of("a", {1000: 20, 500: 21, 300: 22, 200: 27, 100: 80}), within=0.02)
    assert (found.recommended.point.size, found.best.point.size) == (200, 1000)
    assert found.recommended.shortfall == pytest.approx(7 / N)
    assert 0.02 < found.recommended.bound < 0.05
    assert found.proven.point.size == 300
    assert [one.point.size for one in found.open] == [200]
    assert found.caveats == ()
    assert found.examples_needed > N
    assert asked(store_of("b", {1000: 20, 300: 22}), within=0.02).examples_needed is None  # it is proven


def test_the_sweep_s_margin_is_the_one_that_is_asked_by_default(store_of):
    summary = summarize(store_of("a", {1000: 20, 300: 22, 200: 27}, recommend_within=0.02))
    found = decide(summary)
    assert found.within == 0.02
    assert found.recommended.point.name == summary.recommended.name
    assert decide(summary, within=0.01).recommended.point.size == 300


def test_what_each_margin_buys(store_of):
    found = asked(store_of("a", {1000: 20, 500: 21, 300: 24, 200: 28, 100: 80}), within=0.03)
    assert [one.margin for one in found.choices] == sorted({*MARGINS, 0.03})
    assert [one.standing.point.size for one in found.choices] == [1000, 300, 200, 200, 200]
    for one in found.choices:
        assert one.standing.shortfall <= one.margin + 1e-12
        assert one.proven is None or one.proven.bound <= one.margin
    assert found.choices[0].proven is None  # that one is the truly best itself is not known
    assert found.choices[-1].proven.point.size == 200


def test_the_best_measured_has_a_bound_too_but_a_single_adapter_has_none(store_of):
    assert 0 < asked(store_of("a", {1000: 20, 300: 22})).best.bound < 0.02
    alone = asked(store_of("b", {1000: 20}))
    assert (alone.num_compared, alone.best.bound, alone.proven, alone.open) == (1, None, None, ())
    assert alone.unproven == "There was nothing to compare it with: no probability is given."


def test_bounds_are_beside_the_truly_best_whichever_that_is():
    """Brute force: the largest of the bounds beside each other adapter as a control, each with its critical value."""
    scores = right_or_wrong([[0.9], [0.89], [0.88], [0.6]], N, np.random.default_rng(1))
    found = decide(scored_sweep(scores, 0.01), num_draws=4000)
    means = scores.mean(1)
    rng = np.random.default_rng(2)
    weights = rng.exponential(1.0, (4000, N))
    draws = weights @ scores.T / weights.sum(1, keepdims=True) - means
    expected = np.zeros(4)
    for j in range(4):
        others = [c for c in range(4) if c != j]
        errors = draws[:, [j]] - draws[:, others] + rng.exponential(1 / N, (4000, 3))
        scale = np.quantile(errors, 0.95, axis=0)
        widths = scale * np.quantile((errors / scale).max(1), 0.95)
        expected[others] = np.maximum(expected[others], means[j] - means[others] + widths)
    bounds = [found.standings[f"{c:04d}@1"].bound for c in range(4)]
    np.testing.assert_allclose(bounds, expected, rtol=0.06)


def test_more_confidence_takes_more(store_of):
    store = store_of("a", {1000: 20, 300: 24})
    bounds = [asked(store, confidence=level).recommended.bound for level in (0.6, 0.9, 0.99)]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1]


def test_more_adapters_take_more(store_of):
    wrong = {1000: 20, 300: 24}
    few = asked(store_of("a", wrong)).standings["k1@10"].bound
    many = asked(store_of("b", wrong | dict.fromkeys(range(400, 420), 21))).standings["k1@10"].bound
    assert many > few


def test_of_many_adapters_the_doubt_is_shared_with_those_that_are_not_compared(store_of, monkeypatch):
    wrong = {1000: 20, 300: 24} | dict.fromkeys(range(400, 420), 60)
    monkeypatch.setattr("prunedlora.results.analysis.decision.MOST_COMPARED", 4)
    found = asked(store_of("a", wrong))
    bounds = {one.point.size: one.bound for one in found.standings.values()}
    assert sum(bound is not None for bound in bounds.values()) == 4
    alone = asked(store_of("b", {1000: 20, 300: 24, 400: 60, 401: 60})).standings["k1@10"].bound
    assert bounds[300] > alone


def test_without_outcomes_errors_are_taken_for_independent(store_of):
    wrong = {1000: 20, 300: 21}
    paired, apart = asked(store_of("a", wrong)), asked(store_of("b", wrong, outcomes=False))
    assert apart.caveats
    assert apart.recommended.bound > 1.5 * paired.recommended.bound
    assert apart.recommended.point.name == paired.recommended.point.name  # the answer is what was measured


def test_candidates_scored_on_other_examples_are_no_pairs(store_of):
    store = store_of("a", {1000: 20, 300: 21})
    record = store.read_record("k1")
    environment = record.environment.model_copy(update={"data": {"fingerprint": "other"}})
    store.write_record(record.model_copy(update={"environment": environment}), 1)
    assert "had other data than the rest" in asked(store).caveats[0]


@pytest.mark.parametrize(
    ("constraints", "best", "size"),
    [
        (Constraints(max_params=600), 500, 200),
        (Constraints(max_bytes=4 * 250), 200, 200),
        (Constraints(max_rank=2), 1000, 200),
    ],
)
def test_constraints_are_kept_by_the_best_too(constraints, best, size, store_of):
    found = asked(store_of("a", {1000: 20, 500: 21, 300: 22, 200: 23}), constraints=constraints)
    assert (found.best.point.size, found.recommended.point.size) == (best, size)
    assert all(not constraints.excess(one.point) for one in found.standings.values())


def test_bytes_of_the_slot_are_a_constraint(record, candidate):
    points = {
        name: Point(record(name), one, one.figures["accuracy"], 100.0)
        for name, one in {
            "fits": candidate(served_slot_bytes=4096),
            "over": candidate(served_slot_bytes=8192),
            "none": candidate(served_slot=None, max_rank=600),
            "old": candidate(),
        }.items()
    }
    limit = Constraints(max_slot_bytes=4096)
    assert limit.excess(points["fits"]) == {}
    assert limit.excess(points["over"]) == {"bytes of the served slot": (8192, 4096)}
    assert limit.excess(points["none"]) == {"bytes of the served slot": (math.inf, 4096)}
    with pytest.raises(ObjectiveError, match="older than this figure"):
        limit.excess(points["old"])
    assert Constraints().excess(points["old"]) == {}


def test_a_constraint_that_nothing_meets_names_the_nearest(store_of):
    with pytest.raises(
        RequestError,
        match="no candidate meets the constraints; k1@10 comes nearest: parameters 300, 3 times the limit of 100",
    ):
        asked(store_of("a", {1000: 20, 300: 22}), constraints=Constraints(max_params=100))


@pytest.mark.parametrize(("within", "confidence"), [(-0.1, 0.9), (float("nan"), 0.9), (0.1, 1.0), (0.1, 0.2)])
def test_what_makes_no_sense_is_refused(within, confidence, store_of):
    with pytest.raises(RequestError, match="must"):
        asked(store_of("a", {1000: 20}), within=within, confidence=confidence)


def test_an_old_sweep_s_margin_may_be_no_difference_of_shares(store_of):
    assert asked(store_of("a", {1000: 20, 300: 200}, recommend_within=2.0)).recommended.point.size == 300


def test_a_store_without_files_has_no_decision(fill, record, candidate):
    assert asked(fill(record("a", candidate(adapter_path=None)))) is None


def test_the_same_store_gives_the_same_answer(store_of):
    store = store_of("a", {1000: 20, 500: 21, 300: 22, 200: 27})
    assert asked(store) == asked(store)


def test_bounds_do_not_change_when_files_go(store_of):
    store = store_of("a", {1000: 20, 500: 21, 300: 22})
    before = asked(store)
    gone = store.read_record("k1")
    without = gone.candidates[0].model_copy(update={"adapter_path": None})
    store.write_record(gone.model_copy(update={"candidates": (without,)}), 1)
    after = asked(store)
    assert set(before.standings) - set(after.standings) == {"k1@10"}
    assert {name: before.standings[name].bound for name in after.standings} == {
        name: one.bound for name, one in after.standings.items()
    }


def test_unknown_errors_prove_nothing(fill, record, candidate):
    figures = {"accuracy": Figure(value=1.0, num_examples=1)}
    store = fill(*(record(f"k{params}", candidate(params=params, figures=figures)) for params in (100, 200)))
    found = asked(store, within=0.5)
    assert found.best.point.size == 100  # equals: the smallest
    assert [one.bound for one in found.standings.values()] == [None, None]
    assert "no standard error is known" in found.caveats[0]


def losses(num_examples: int):
    rng = np.random.default_rng(0)
    targets = rng.integers(1, 5, num_examples).astype(float)
    sums = rng.random(num_examples) * targets
    return lossy_sweep(np.stack([sums, sums + 0.01 * targets]), targets, 0.02)


def test_a_loss_is_compared_by_its_sums():
    found = decide(losses(LOSS_EXAMPLES))
    assert (found.best.point.size, found.recommended.point.size) == (2, 1)
    assert found.is_paired
    assert found.caveats == (
        "No cost that is rarer than about one in 100 examples is reckoned with: 400 validation examples need not show "
        "it.",
    )
    # 0.01 more of each target: known nearly exactly, being paired, but for what one example more may add.
    assert 0.01 < found.recommended.bound < 0.011


def test_of_a_loss_on_few_examples_no_probability_is_given():
    found = decide(losses(LOSS_EXAMPLES - 1))
    assert found.recommended.point.size == 1
    assert [one.bound for one in found.standings.values()] == [None, None]
    assert found.proven is None
    assert "takes at least 400 validation examples of a loss" in found.unproven
    assert "and here are 399." in found.unproven


def test_a_loss_without_outcomes_proves_nothing(store_of):
    store = store_of("a", {1000: 20, 300: 21})
    for number in range(2):
        record = store.read_record(f"k{number}")
        figures = {"loss": Figure(value=0.5 + number / 100, stderr=0.01, num_examples=N)}
        changed = record.candidates[0].model_copy(update={"figures": figures})
        store.write_record(record.model_copy(update={"candidates": (changed,)}), 1)
    store.delete_folder(store.trial_path("k1", "outcomes"))
    store.write_sweep(store.read_sweep() | {"objectives": {"loss": "minimize", "adapter_params": "minimize"}})
    found = asked(store, within=0.02)
    assert found.recommended.point.size == 300
    assert found.recommended.bound is None
    assert "Of a loss nothing is proven without outcomes by example" in found.caveats[-2]
    assert "No cost that is rarer" in found.caveats[-1]


def test_a_rare_loss_of_one_rival_counts_against_those_that_were_not_caught_at_it():
    """Of three rivals one never shows the rare example that the two others show: it may cost it just as much."""
    rng = np.random.default_rng(0)
    sums = np.tile(rng.random(N), (4, 1)) + 0.01 * rng.standard_normal((4, N))
    calm = decide(lossy_sweep(sums, np.ones(N), 0.02)).standings["0003@1"].bound
    sums[1, :4] += 10.0
    sums[2, 4:8] += 10.0
    assert decide(lossy_sweep(sums, np.ones(N), 0.02)).standings["0003@1"].bound > 5 * calm


def test_a_figure_that_is_no_score_proves_nothing(fill, record, candidate):
    figures = {"harness/wikitext/perplexity": Figure(value=12.0, stderr=1.0, num_examples=N)}
    objectives = {"harness/wikitext/perplexity": "minimize", "adapter_params": "minimize"}
    trials = [record(key, candidate(figures=figures)) for key in "ab"]
    assert "no score from 0 to 1" in asked(fill(*trials, objectives=objectives)).unproven


@pytest.mark.slow
def test_about_as_many_examples_as_are_said_prove_it():
    """Against outcomes that are there so many times over: the bound itself, of a whole decision, to a fifth."""
    scores = right_or_wrong([[0.97], [0.966], [0.96], [0.8]], 200, np.random.default_rng(0))

    def bound(times: int) -> float:
        return decide(scored_sweep(np.tile(scores, (1, times)), 0.02)).recommended.bound

    found = decide(scored_sweep(scores, 0.02))
    times = found.examples_needed / 200
    assert 5 < times < 20
    assert bound(math.floor(times / 1.2)) > 0.02
    assert bound(math.ceil(times * 1.2)) <= 0.02


def test_no_affordable_number_of_examples_proves_what_measured_at_the_margin():
    found = decide(scored_sweep(np.array([[1.0] * N, [1.0] * 396 + [0.0] * 4]), 0.01))
    assert found.recommended.point.name == "0001@1"
    assert found.recommended.bound > 0.01
    assert found.examples_needed is None


@pytest.fixture
def seeds_of(store_of) -> Callable[..., Store]:
    """seeds_of({params: [wrong of the first N, one per seed]}): trials of one configuration each, seeds 0, 1, …"""

    def make(wrong, **fields):
        flat = [(params, seed, count) for params, counts in wrong.items() for seed, count in enumerate(counts)]
        # One key per trial: sizes are told apart again by whole hundreds.
        store = store_of("seeds", {params + seed: count for params, seed, count in flat}, **fields)
        for number, (params, seed, _) in enumerate(flat):
            old = store.read_record(f"k{number}")
            candidate = old.candidates[0].model_copy(update={"adapter_params": params})
            config = {"rank": params, "seed": seed}
            store.write_record(old.model_copy(update={"config": config, "candidates": (candidate,)}), 1)
        return store

    return make


def test_what_is_judged_is_the_adapter_and_not_its_settings(seeds_of):
    found = asked(seeds_of({1000: [20, 24, 22], 300: [21, 60, 90]}), within=0.01)
    assert found.recommended.point.key == "k3"  # itself within the margin, whatever its seeds do
    assert len(found.settings.points) == 3
    assert found.settings.over_seeds[0] == pytest.approx(1 - 57 / N)


def test_settings_know_which_of_their_trainings_failed(seeds_of, failed):
    store = seeds_of({300: [20, 21]})
    for seed, fault in ((2, None), (3, "trial"), (4, "node")):
        record = failed(f"x{seed}").model_copy(update={"config": {"rank": 300, "seed": seed}})
        failure = record.failure.model_copy(update={"fault": fault})
        store.write_record(record.model_copy(update={"failure": failure}), 1)
    settings = asked(store).settings
    assert (settings.num_trainings, settings.num_failed) == (5, 2)  # a node's fault is none of the settings


def test_a_fresh_training_that_failed_is_none_of_those_that_the_mean_is_of(seeds_of, failed):
    """They stand beside it: what the mean is not of cannot be counted among its failures."""
    store = seeds_of({300: [20, 21]})
    record = failed("fresh").model_copy(update={"config": {"rank": 300, "seed": 2}})
    store.write_record(record, 1)
    assert asked(store).settings.num_failed == 1
    setting = ConfirmedSetting(key="k0", candidates=("10",), fresh=("fresh",))
    plan = ConfirmationPlan(
        number=0, names=("best",), settings=(setting,), against=None, seeds=(2,), looks=(1,), within=0.01,
        confidence=0.95, asked_by="me", asked_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    store.write_confirmation(plan)
    settings = asked(store).settings
    assert (settings.num_trainings, settings.num_failed) == (2, 0)


def test_a_training_that_failed_later_is_in_the_mean_and_counts_as_failed(seeds_of):
    store = seeds_of({300: [20, 21]})
    known = asked(store).settings
    record = store.read_record(known.points[-1].key)
    failure = {"type": "E", "message": "m", "traceback": ""}
    store.write_record(type(record).model_validate(record.model_dump() | {"status": "failed", "failure": failure}), 1)
    again = asked(store).settings
    assert (again.over_seeds, again.num_failed, again.num_trainings) == (known.over_seeds, 1, 2)


def test_outcomes_of_loss_sums_alone_leave_accuracies_unpaired(store_of):
    store = store_of("a", {1000: 20, 300: 21})
    store.write_outcomes("k1", "10", ExampleOutcomes(loss_sums=(0.5,) * N, num_targets=(1,) * N, scores={}))
    assert "no outcomes by example are on record" in asked(store).caveats[0]
