"""Intervals for many pairs at once keep their confidence, whichever pair is picked afterwards."""

import numpy as np
import pytest
from scipy.stats import norm

from prunedlora.results.confidence import draw_means
from prunedlora.results.simultaneous import contenders, critical_value, spreads

N = 200
CONFIDENCE = 0.95
SWEEPS = 100


def scored(true: np.ndarray, rng: np.random.Generator, correlation: float = 0.8) -> np.ndarray:
    """Right or wrong (C, N) at true accuracies (C,), on examples that are as hard for one as for the other."""
    shared = np.sqrt(correlation) * rng.standard_normal(N)
    own = np.sqrt(1 - correlation) * rng.standard_normal((len(true), N))
    return (shared + own < norm.ppf(true)[:, None]).astype(float)


def picked(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, d: float | None = None):
    """(pick of the first group, of the second, measured difference, reach of its interval) for two groups of candidates
    with these true accuracies, of one size; `d`: instead of the critical value."""
    scores = scored(np.concatenate([first, second]), rng)
    means, half = scores.mean(1), len(first)
    stderrs = np.sqrt(means * (1 - means) / (N - 1))
    errors, steps = draw_means(scores, None, rng, 150) - means, np.full(len(means), 1 / N)
    limits = np.ones(1)
    running = [
        np.flatnonzero(contenders(means[part], stderrs[part], np.ones(len(means[part])), limits, 4.0)[0])
        for part in (slice(None, half), slice(half, None))
    ]
    if d is None:
        d = critical_value(errors, steps, [(int(a), running[1] + half) for a in running[0]], CONFIDENCE)
    a, c = int(means[:half].argmax()), half + int(means[half:].argmax())
    return a, c, means[a] - means[c], d * spreads(errors, steps, a, np.array([c]))[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([0.9], [0.9], id="one each"),
        pytest.param([0.9] * 20, [0.9] * 20, id="many equal ones"),
        pytest.param([0.9], [0.9] * 30, id="one against the luckiest of many"),
        pytest.param([0.99] * 3, [0.99] * 9, id="few wrong answers"),
        pytest.param([0.92, 0.9, 0.9], [0.88] * 10, id="a true difference"),
    ],
)
def test_the_stated_confidence_is_kept(first, second):
    rng = np.random.default_rng(3)
    true = np.concatenate([first, second])
    missed = 0
    for _ in range(SWEEPS):
        a, c, difference, reach = picked(np.array(first), np.array(second), rng)
        missed += abs(difference - (true[a] - true[c])) > reach
    assert missed / SWEEPS <= 1 - CONFIDENCE + 2 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / SWEEPS)


def test_without_the_correction_luck_is_taken_for_a_difference():
    rng = np.random.default_rng(3)
    found = [picked(np.full(1, 0.9), np.full(30, 0.9), rng, d=norm.ppf(0.975)) for _ in range(100)]
    assert np.mean([abs(difference) > reach for _, _, difference, reach in found]) > 0.15


def test_a_difference_that_is_large_enough_is_told():
    rng = np.random.default_rng(3)
    told = [picked(np.full(5, 0.95), np.full(5, 0.85), rng) for _ in range(30)]
    assert np.mean([difference > reach for _, _, difference, reach in told]) > 0.9


def test_the_spread_of_a_pair_is_that_of_its_differences_and_one_example():
    rng = np.random.default_rng(0)
    scores = scored(np.array([0.9, 0.85]), rng)
    errors = draw_means(scores, None, rng) - scores.mean(1)
    paired = np.sqrt((scores[1] - scores[0]).var() / N + 1 / N**2)
    np.testing.assert_allclose(spreads(errors, np.full(2, 1 / N), 0, np.array([1])), paired, rtol=0.05)
    assert spreads(errors, np.full(2, 1 / N), 0, np.array([0])) == pytest.approx(1 / N)
    assert spreads(errors, np.zeros(2), 0, np.array([0])) == 0.0


def test_the_critical_value_of_one_pair_is_the_normal_one_and_grows_with_pairs():
    errors = np.random.default_rng(0).standard_normal((20_000, 12))
    steps = np.zeros(12)
    values = [critical_value(errors, steps, [(0, np.arange(1, n))], CONFIDENCE) for n in (2, 4, 12)]
    assert values[0] == pytest.approx(norm.ppf(0.975), abs=0.04)
    assert values == sorted(values)
    never_differ = critical_value(errors[:, :1], steps[:1], [(0, np.array([0]))], CONFIDENCE)
    assert never_differ == pytest.approx(norm.ppf(0.975))


def test_contenders_fit_and_are_near_the_best():
    running = contenders(
        gains=np.array([0.5, 0.9, 0.89, 0.95]),
        stderrs=np.full(4, 0.01),
        sizes=np.array([1.0, 2.0, 2.0, 4.0]),
        limits=np.array([0.5, 1.0, 2.0, 4.0]),
        screen=4.0,
    )
    assert running.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
