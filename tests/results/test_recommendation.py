"""The smallest adapter that is proven good enough, from a store's records and outcomes."""

import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from prunedlora.results.pareto import Point
from prunedlora.results.recommendation import Constraints, RequestError, knee, recommend_with_confidence
from prunedlora.results.record import ExampleOutcomes, Figure, ObjectiveError
from prunedlora.results.store import Store
from prunedlora.results.summary import summarize
from prunedlora.results.verdict import NothingToRecommendError, print_verdict

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
                ExampleOutcomes(loss_sums=(0.5,) * N, num_targets=(1,) * N, correct={"accuracy": correct}),
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
        outcomes = ExampleOutcomes(loss_sums=tuple(sums), num_targets=tuple(map(int, targets)), correct={})
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
    assert limit.excess(points["over"]) == {"bytes of the served slot": 2.0}
    assert limit.excess(points["none"]) == {"bytes of the served slot": math.inf}
    with pytest.raises(ObjectiveError, match="older than this figure"):
        limit.excess(points["old"])
    assert Constraints().excess(points["old"]) == {}


def test_a_constraint_that_nothing_meets_names_the_nearest(sweep_of):
    with pytest.raises(
        RequestError, match="no candidate meets the constraints; k1@10 comes nearest: parameters 3 times"
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
