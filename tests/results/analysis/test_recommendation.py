"""The smallest adapter that is proven good enough, from a store's records and outcomes."""

import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from prunedlora.results.analysis.recommendation import Constraints, RequestError, knee, recommend_with_confidence
from rich.console import Console

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import ExampleOutcomes, Failure, Figure, ObjectiveError
from prunedlora.results.report.verdict import NothingToRecommendError, print_verdict
from prunedlora.results.store import Store

ANYTHING = Constraints()
N = 400


@pytest.fixture
def sweep_of(record, candidate, fill) -> Callable[..., Store]:
    """sweep_of({params: how many of the first N examples are wrong}): one trial each, all wrong on the same ones."""

    def make(wrong, outcomes=True, **fields):
        records = []
        for i, (params, count) in enumerate(wrong.items()):
            share = 1 - count / N
            figures = {"accuracy": Figure(value=share, stderr=(share * (1 - share) / (N - 1)) ** 0.5, num_examples=N)}
            records.append(record(f"k{i}", candidate(params=params, figures=figures)))
        store = fill(*records, **fields)
        for each, count in zip(records, wrong.values(), strict=True) if outcomes else ():
            correct = tuple(int(place >= count) for place in range(N))
            store.write_outcomes(
                each.key,
                "10",
                ExampleOutcomes(loss_sums=(0.5,) * N, num_targets=(1,) * N, scores={"accuracy": correct}),
            )
        return store

    return make


def asked(store, within=0.02, confidence=0.95, constraints=ANYTHING):
    return recommend_with_confidence(summarize(store), within=within, confidence=confidence, constraints=constraints)


def test_the_smallest_proven_one_is_named_with_what_it_beat_and_what_is_open(sweep_of):
    # 2 and 7 examples of 400 apart the bounds are near 0.01 and 0.03; 60 apart nothing is worth a comparison.
    store = sweep_of({1000: 20, 500: 21, 300: 22, 200: 27, 100: 80})
    found = asked(store)
    assert found.point.size == 300
    assert found.best.size == 1000
    assert found.paired
    assert 0.005 < found.bound_of(found.point) <= 0.02
    assert [rival.point.size for rival in found.beaten] == [500]
    assert [rival.point.size for rival in found.open] == [200]
    assert found.open[0].bound > 0.02
    (remedy,) = found.remedies
    assert remedy.num_examples > N
    assert remedy.num_seeds is None
    assert asked(store, within=0.1).point.size == 200
    assert asked(store, within=0.0).point.size == 1000


def test_more_confidence_takes_more(sweep_of):
    store = sweep_of({1000: 20, 300: 24})
    bounds = [[rival.bound for rival in asked(store, confidence=level).rivals] for level in (0.6, 0.9, 0.99)]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1]


def test_without_outcomes_errors_are_taken_for_independent(sweep_of):
    wrong = {1000: 20, 300: 21}
    found = asked(sweep_of(wrong, outcomes=False))
    assert not found.paired
    assert found.point.size == 1000  # cautious: pairs would have proven the small one
    assert [rival.point.size for rival in found.open] == [300]


def test_candidates_scored_on_other_examples_are_no_pairs(sweep_of):
    store = sweep_of({1000: 20, 300: 21})
    assert asked(store).paired
    record = store.read_record("k1")
    environment = record.environment.model_copy(update={"data": {"fingerprint": "other"}})
    store.write_record(record.model_copy(update={"environment": environment}), 1)
    assert not asked(store).paired


def test_confidence_is_not_rounded_to_certainty(sweep_of):
    text = io.StringIO()
    print_verdict(
        sweep_of({1000: 20, 300: 20}), Console(file=text, width=100), within=0.02, confidence=0.995,
        constraints=ANYTHING, as_json=False,
    )  # fmt: skip
    assert "99.5% confidence" in text.getvalue()
    assert "100%" not in text.getvalue()


def test_a_loss_is_compared_by_its_sums(sweep_of):
    store = sweep_of({1000: 20, 300: 25})
    for key, shift in (("k0", 0.0), ("k1", 0.01)):
        rng = np.random.default_rng(0)
        sums, targets = rng.random(N) + shift, rng.integers(1, 5, N)
        outcomes = ExampleOutcomes(loss_sums=tuple(sums), num_targets=tuple(map(int, targets)), scores={})
        store.write_outcomes(key, "10", outcomes)
        record = store.read_record(key)
        figures = {"loss": Figure(value=sums.sum() / targets.sum(), stderr=0.01, num_examples=N)}
        record = record.model_copy(
            update={"candidates": (record.candidates[0].model_copy(update={"figures": figures}),)}
        )
        store.write_record(record, 1)
    sweep = store.read_sweep() | {"objectives": {"loss": "minimize", "adapter_params": "minimize"}}
    store.write_sweep(sweep)
    found = asked(store, within=0.01)
    assert found.best.size == 1000
    assert found.point.size == 300
    assert (
        0.003 < found.bound_of(found.point) < 0.006
    )  # 0.01 more per example, 2.5 targets each: known nearly exactly, being paired


@pytest.mark.parametrize(
    ("constraints", "best", "size"),
    [
        (Constraints(max_params=600), 500, 200),
        (Constraints(max_bytes=4 * 250), 200, 200),
        (Constraints(max_rank=2), 1000, 300),
    ],
)
def test_constraints_are_kept_by_the_best_too(constraints, best, size, sweep_of):
    found = asked(sweep_of({1000: 20, 500: 21, 300: 22, 200: 23}), constraints=constraints)
    assert (found.best.size, found.point.size) == (best, size)


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


def test_a_constraint_that_nothing_meets_names_the_nearest(sweep_of):
    with pytest.raises(
        RequestError,
        match="no candidate meets the constraints; k1@10 comes nearest: parameters 300, 3 times the limit of 100",
    ):
        asked(sweep_of({1000: 20, 300: 22}), constraints=Constraints(max_params=100))


@pytest.mark.parametrize(("within", "confidence"), [(-0.1, 0.9), (float("nan"), 0.9), (0.1, 1.0), (0.1, 0.2)])
def test_what_makes_no_sense_is_refused(within, confidence, sweep_of):
    with pytest.raises(RequestError, match="must"):
        asked(sweep_of({1000: 20}), within=within, confidence=confidence)


def test_the_same_store_gives_the_same_answer(sweep_of):
    store = sweep_of({1000: 20, 500: 21, 300: 22, 200: 27})
    assert asked(store) == asked(store)


def test_the_knee_of_the_front(sweep_of):
    assert knee(summarize(sweep_of({10: 200, 100: 40, 1000: 38}))).size == 100


def test_a_short_front_has_no_knee(sweep_of):
    assert knee(summarize(sweep_of({10: 200, 100: 40}))) is None


def printed(store, as_json=False, within=0.02):
    text = io.StringIO()
    print_verdict(
        store, Console(file=text, width=100), within=within, confidence=0.95, constraints=ANYTHING, as_json=as_json
    )
    return text.getvalue()


def test_the_verdict_in_words_and_as_json(sweep_of):
    store = sweep_of({1000: 20, 500: 21, 300: 22, 200: 27})
    words = " ".join(printed(store).split())
    assert "Recommended: k2@10, 300 parameters" in words
    assert "than the best, k0@10 (accuracy 0.950 ± 0.011; 1,000 parameters), with 95% confidence" in words
    assert "1 smaller measured well enough but not for sure, the smallest k3@10" in words
    assert "validation examples (now 400) would settle" in words
    assert f"prunedlora export '{store.uri}'" in words or f"prunedlora export {store.uri}" in words
    assert max(map(len, printed(store).replace(store.uri, "").splitlines())) <= 100
    document = json.loads(printed(store, as_json=True))
    assert document["recommended"]["candidate"] == "k2@10"
    assert document["worse_by_at_most"] == asked(store).bound_of(asked(store).point)
    assert [one["candidate"] for one in document["not_proven"]] == ["k3@10"]
    assert "It is the best itself" in " ".join(printed(store, within=0.0).split())


def test_a_store_without_adapters_says_why(fill, failed):
    with pytest.raises(NothingToRecommendError, match="All 1 trials failed"):
        printed(fill(failed("bad")))


@pytest.fixture
def seeds_of(sweep_of) -> Callable[..., Store]:
    """seeds_of({params: [wrong of the first N, one per seed]}): trials of one configuration each, seeds 0, 1, …"""

    def make(wrong):
        flat = [(params, seed, count) for params, counts in wrong.items() for seed, count in enumerate(counts)]
        # One key per trial: sizes are told apart again by whole hundreds.
        store = sweep_of({params + seed: count for params, seed, count in flat})
        for number, (params, seed, _) in enumerate(flat):
            old = store.read_record(f"k{number}")
            candidate = old.candidates[0].model_copy(update={"adapter_params": params})
            config = {"rank": params, "seed": seed}
            store.write_record(old.model_copy(update={"config": config, "candidates": (candidate,)}), 1)
        return store

    return make


def test_a_configuration_is_judged_by_the_mean_of_its_seeds(seeds_of):
    found = asked(seeds_of({1000: [20, 24, 22], 300: [21, 25, 20]}), within=0.05)
    assert found.best_configuration.mean == pytest.approx(1 - 22 / N)  # 300 is as good in the mean, and smaller
    assert found.best.size == 300
    assert found.best.key == "k5"  # of its seeds the best
    assert found.bound_of(found.chosen.points[0]) == 0.0


def test_noise_between_trainings_widens_the_bounds(seeds_of):
    calm = asked(seeds_of({1000: [20, 20], 300: [22, 22]}), within=0.05)
    restless = asked(seeds_of({1000: [10, 30], 300: [12, 32]}), within=0.05)
    assert calm.seed_deviation == 0.0
    assert restless.seed_deviation == pytest.approx(20 / N / 2**0.5, rel=0.1)
    assert restless.seed_degrees == 2
    assert calm.point.size == 300
    assert restless.point.size == 1000
    assert restless.rivals[0].bound > 3 * calm.rivals[0].bound


def test_what_would_settle_it_is_seeds_where_seeds_are_the_noise(seeds_of):
    store = seeds_of({1000: [10, 30], 300: [12, 32]})
    found = asked(store, within=0.05)
    assert found.unsettled.point.size == 300
    (remedy,) = [one for one in found.remedies if one.num_seeds is not None]
    assert remedy.num_examples is None
    assert 2 < remedy.num_seeds < 30
    words = " ".join(printed(store, within=0.05).split())
    assert f"bout {remedy.num_seeds} seeds each of k0@10 and k2@10 (now 2 and 2)" in words
    assert "accuracy 0.975 ± 0.008 (validation; 0.950 ± 0.025 over 2 seeds)" in words
    assert "as far as 2 repeated trainings tell: over seeds a standard deviation of 0.0" in words
    document = json.loads(printed(store, within=0.05, as_json=True))
    assert document["would_settle"]["candidate"] == "k2@10"
    assert {"num_examples": None, "num_seeds": remedy.num_seeds} in document["would_settle"]["either"]
    assert document["recommended"]["mean_over_seeds"] == pytest.approx(0.95)


def test_so_many_more_seeds_do_settle_it(seeds_of):
    (remedy,) = [r for r in asked(seeds_of({1000: [10, 30], 300: [12, 32]}), within=0.05).remedies if r.num_seeds]
    half = (remedy.num_seeds + 1) // 2
    more = asked(seeds_of({1000: [10, 30] * half, 300: [12, 32] * half}), within=0.05)
    assert more.point.size == 300


def test_those_trained_once_are_taken_to_vary_as_much(seeds_of):
    store = seeds_of({1000: [10, 30], 300: [22]})
    found = asked(store, within=0.03)
    assert found.rivals[0].seed_variance == pytest.approx(found.seed_deviation**2 * (1 / 2 + 1))
    assert "; 1 of 2 trained once are taken to vary as much." in " ".join(printed(store, within=0.03).split())


def test_one_training_each_is_said_and_whose_seeds_to_train(sweep_of):
    words = " ".join(printed(sweep_of({1000: 20, 300: 20})).split())
    assert "train further seeds of the configuration of k1@10, three at least." in words
    words = " ".join(printed(sweep_of({1000: 20, 300: 21})).split())
    assert "One training each: another seed may differ by more than this." in words
    assert "train further seeds of the configurations of k0@10 and k1@10, three at least." in words


def test_a_failed_seed_is_told(seeds_of, failed):
    store = seeds_of({300: [20, 21]})
    store.write_record(failed("k9").model_copy(update={"config": {"rank": 300, "seed": 2}}), 1)
    assert "Not in its mean, having failed or ended earlier: k9." in " ".join(printed(store).split())


def test_a_seed_that_failed_later_is_in_the_mean(seeds_of):
    store = seeds_of({300: [20, 21]})
    known = asked(store).chosen
    failure = Failure(type="E", message="m", traceback="")
    record = store.read_record(known.points[-1].key)
    store.write_record(record.model_copy(update={"status": "failed", "failure": failure}), 1)
    again = asked(store).chosen
    assert (again.mean, again.missing) == (known.mean, ())
    assert len(again.points) == len(known.points)


def test_seeds_without_outcomes_are_no_independent_examples(seeds_of):
    """Three trainings scored on the same 400 examples are not scored on 1,200."""
    store = seeds_of({1000: [20, 20, 20], 300: [22, 22, 22]})
    for number in range(6):
        store.delete_folder(store.trial_path(f"k{number}", "outcomes"))
    rival = asked(store, within=0.05).rivals[0]
    assert rival.example_variance == pytest.approx(2 * 0.0109**2, rel=0.1)


def test_unknown_errors_prove_nothing(fill, record, candidate):
    figures = {"accuracy": Figure(value=1.0, num_examples=1)}
    store = fill(*(record(f"k{params}", candidate(params=params, figures=figures)) for params in (100, 200)))
    larger = candidate(params=300, figures={"accuracy": Figure(value=1.0, stderr=0.0, num_examples=N)})
    store.write_record(record("k300", larger), 1)
    constraints = Constraints()
    found = asked(store, within=0.5, constraints=constraints)
    assert found.best.size == 100  # equals: the smallest
    words = " ".join(printed(store).split())
    assert "Of k100@10 no standard error is known" in words


def test_the_mean_is_over_all_seeds_also_those_whose_adapter_was_deleted(seeds_of):
    """`retention.adapters: front` leaves figures: with its files or without, the same configuration decides."""
    store = seeds_of({1000: [40, 44], 300: [200, 12]})
    before = asked(store)
    worst = store.read_record("k2")
    deleted = worst.candidates[0].model_copy(update={"adapter_path": None})
    store.write_record(worst.model_copy(update={"candidates": (deleted,)}), 1)
    after = asked(store)
    assert before.best_configuration.mean == after.best_configuration.mean == pytest.approx(1 - 42 / N)
    assert (before.point.name, before.bound_of(before.point)) == (after.point.name, after.bound_of(after.point))


def test_of_the_seeds_one_with_a_file_is_shipped(seeds_of):
    store = seeds_of({300: [20, 24, 22]})
    best = store.read_record("k0")
    deleted = best.candidates[0].model_copy(update={"adapter_path": None})
    store.write_record(best.model_copy(update={"candidates": (deleted,)}), 1)
    found = asked(store)
    assert (found.point.key, len(found.chosen.points)) == ("k2", 3)
    assert found.chosen.mean == pytest.approx(1 - 22 / N)


@pytest.fixture
def ladders_of(fill, record, candidate):
    """ladders_of({seed: [(params, wrong), …]}): one training each, a rung for each size; all wrong on the same ones."""

    def make(seeds, cut=None, passed_over=()):
        records = []
        for seed, rungs in seeds.items():
            candidates = []
            for rung, (params, count) in enumerate(rungs):
                share = 1 - count / N
                stderr = (share * (1 - share) / (N - 1)) ** 0.5
                figures = {"accuracy": Figure(value=share, stderr=stderr, num_examples=N)}
                made = {"cut": cut} if cut and rung == len(rungs) - 1 else {}
                step = 10 * (rung + 1) - (10 if made else 0)
                candidates.append(candidate(params=params, step=step, figures=figures, rung=rung, **made))
            kept = candidates[:-1] if seed in passed_over else candidates
            records.append(record(f"k{seed}", *kept, config={"seed": seed}))
        store = fill(*records)
        for each in records:
            for one in each.candidates:
                right = tuple(int(place >= N - round(N * one.figures["accuracy"].value)) for place in range(N))
                outcomes = ExampleOutcomes(loss_sums=(0.5,) * N, num_targets=(1,) * N, scores={"accuracy": right})
                store.write_outcomes(each.key, one.name, outcomes)
        return store

    return make


def test_rungs_of_two_trainings_repeat_one_training_and_say_over_which_sizes(ladders_of):
    store = ladders_of({0: [(1000, 10), (505, 11), (298, 12)], 1: [(1000, 30), (498, 31), (300, 32)]})
    found = asked(store, within=0.05)
    assert (found.seed_degrees, len(found.rivals)) == (1, 2)
    words = " ".join(printed(store, within=0.05).split())
    assert "as far as 1 repeated training tells: over seeds" in words
    sizes = json.loads(printed(store, within=0.5, as_json=True))["recommended"]["params_over_seeds"]
    assert sizes == [298, 300]
    words = " ".join(printed(store, within=0.9).split())
    assert "over 2 seeds, of 298 to 300 parameters)" in words


def test_rungs_of_one_training_are_not_told_to_be_one_training_each(ladders_of):
    words = " ".join(printed(ladders_of({0: [(1000, 10), (500, 11)]}), within=0.05).split())
    assert "Both are of one training, k0, and share its seed: another may move them together, or apart." in words


def test_a_seed_that_passed_a_cut_over_is_told(ladders_of, cut):
    store = ladders_of({0: [(1000, 10), (300, 11)], 1: [(1000, 11), (300, 90)]}, cut=cut(1), passed_over=(1,))
    words = " ".join(printed(store, within=0.9).split())
    assert "Recommended: k0@10r1" in words
    assert (
        "Not in its mean, having failed or ended earlier, or passed over this cut, which flatters the mean: k1."
        in words
    )
