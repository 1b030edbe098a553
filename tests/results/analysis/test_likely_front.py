"""How likely candidates are on the front: against brute force, and what is said of those without pairs."""

import numpy as np
import pytest
from prunedlora.results.analysis.likely_front import domination, likely_front, on_front_share

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import ExampleOutcomes, Figure

N = 400


def test_shares_and_dominators_against_brute_force():
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 6, size=(80, 9)).astype(float)  # ties in quality
    draws[:, 4] = np.nan
    sizes = np.array([1, 2, 2, 2, 3, 3, 4, 5, 5], dtype=float)  # ties in size

    def dominates(draw, a, b):
        if np.isnan(draw[a]):
            return False
        value = -np.inf if np.isnan(draw[b]) else draw[b]
        return sizes[a] <= sizes[b] and draw[a] >= value and (sizes[a] < sizes[b] or draw[a] > value)

    pairs = np.array([[np.mean([dominates(draw, a, b) for draw in draws]) for b in range(9)] for a in range(9)])
    free = [np.mean([not any(dominates(draw, a, b) for a in range(9)) for draw in draws]) for b in range(9)]
    known = np.arange(9) != 4
    np.testing.assert_allclose(on_front_share(draws, sizes)[known], np.array(free)[known])
    dominator, share, num_dominated = domination(draws, sizes)
    np.testing.assert_allclose(share, pairs.max(0))
    np.testing.assert_array_equal(dominator[share > 0], pairs.argmax(0)[share > 0])
    np.testing.assert_allclose(num_dominated, pairs.sum(1))


@pytest.fixture
def store(record, candidate, fill):
    """The smallest has 60 more wrong than the largest; the middle one and the largest differ on 2 × 8 examples."""
    wrong = {"k0": (100, set(range(80))), "k1": (200, set(range(20))), "k2": (300, {*range(12), *range(30, 38)})}
    store = fill(
        *(
            record(
                key,
                candidate(
                    params=params, figures={"accuracy": Figure(value=1 - len(of) / N, stderr=0.01, num_examples=N)}
                ),
                config={"adapter": {"method": "lora"}, "seed": number, "rank": params},
            )
            for number, (key, (params, of)) in enumerate(wrong.items())
        )
    )
    for key, (_, of) in wrong.items():
        correct = tuple(int(place not in of) for place in range(N))
        store.write_outcomes(
            key, "10", ExampleOutcomes(loss_sums=(0.1,) * N, num_targets=(1,) * N, scores={"accuracy": correct})
        )
    return store


def test_the_standing_of_every_candidate(store):
    found = likely_front(summarize(store))
    small, middle, large = found.standings
    assert [standing.point.key for standing in found.standings] == ["k0", "k1", "k2"]
    assert small.on_front == 1.0  # nothing is smaller
    assert small.dominated_by is None
    assert middle.on_front == 1.0  # 60 examples apart
    # Equally many wrong, and the larger is on the front where it does better: half the draws without a tie.
    assert 0.35 < large.on_front < 0.5
    assert large.dominated == 1 - large.on_front
    assert large.dominated_by.key == "k1"
    assert large.dominated_by_it == pytest.approx(large.dominated)
    assert middle.num_dominated == pytest.approx(large.dominated_by_it)
    assert found.caveats == ()
    assert found.of(large.point) is large
    assert found == likely_front(summarize(store))


def test_seeds_of_a_configuration_stand_beside_its_candidates(store):
    standings = {standing.point.key: standing for standing in likely_front(summarize(store)).standings}
    assert len(standings["k0"].configuration.points) == 1
    record = store.read_record("k2")
    store.write_record(record.model_copy(update={"config": store.read_record("k1").config | {"seed": 9}}), 1)
    middle = likely_front(summarize(store)).of(standings["k1"].point)
    assert [point.key for point in middle.configuration.points] == ["k1", "k2"]
    assert middle.configuration.mean == pytest.approx(0.95)
    assert middle.configuration.stderr_over_seeds == pytest.approx(0.0)


def test_candidates_without_pairs_are_named(store, record, candidate):
    bare = candidate(params=400, figures={"accuracy": Figure(value=0.95, stderr=0.01, num_examples=N)})
    single = candidate(params=50, figures={"accuracy": Figure(value=1.0, num_examples=1)})
    store.write_record(record("k3", bare), 1)
    store.write_record(record("k4", single), 1)
    other = store.read_record("k1")
    environment = other.environment.model_copy(update={"data": {"fingerprint": "other"}})
    store.write_record(other.model_copy(update={"environment": environment}), 1)
    found = likely_front(summarize(store))
    assert found.caveats == (
        "Of k3@10 no outcomes by example are on record: their errors were taken for independent, which overstates the "
        "doubt.",
        "k1@10 had other data than the rest: no pairs, and only as comparable as the data are.",
        "Of k4@10 no standard error is known: nothing can be said of how good they are.",
    )
    unknown = found.standings[0]
    assert (unknown.point.key, unknown.on_front, unknown.dominated, unknown.num_dominated) == ("k4", None, None, None)
    assert found.standings[1].on_front == 1.0  # what is not known dominates nothing


def test_an_empty_front(fill, failed):
    assert likely_front(summarize(fill(failed("bad")))).standings == ()
