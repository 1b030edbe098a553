"""Bounds for the best of many, at many sizes, keep their confidence."""

import numpy as np
import pytest
from scipy.stats import norm

from prunedlora.results.analysis.confidence import draw_means
from prunedlora.results.comparison.simultaneous import contenders, critical_value, spreads

N = 200
CONFIDENCE = 0.95
SWEEPS = 100
Group = dict[int, list[float]]


def scored(true: np.ndarray, rng: np.random.Generator, correlation: float = 0.8) -> np.ndarray:
    """Right or wrong (C, N) at true accuracies (C,), on examples that are as hard for one as for the other."""
    shared = np.sqrt(correlation) * rng.standard_normal(N)
    own = np.sqrt(1 - correlation) * rng.standard_normal((len(true), N))
    return (shared + own < norm.ppf(true)[:, None]).astype(float)


def bounds(first: Group, second: Group, rng: np.random.Generator, d: float | None = None) -> list[tuple[float, ...]]:
    """For every size that both have: (low, high, true difference of the bests) of two groups, each given as its true
    accuracies by size; `d`: instead of the critical values."""
    sizes = [np.repeat(list(group), [len(some) for some in group.values()]).astype(float) for group in (first, second)]
    true = [np.concatenate([np.array(some) for some in group.values()]) for group in (first, second)]
    scores = scored(np.concatenate(true), rng)
    means = scores.mean(1)
    stderrs = np.sqrt(means * (1 - means) / (N - 1))
    errors, steps = draw_means(scores, None, rng, 150) - means, np.full(len(means), 1 / N)
    limits = np.array([size for size in sorted({*sizes[0], *sizes[1]}) if size >= max(sizes[0].min(), sizes[1].min())])
    parts = np.arange(len(true[0])), len(true[0]) + np.arange(len(true[1]))
    best = [
        [part[np.where(size <= limit, means[part], -1).argmax()] for limit in limits]
        for part, size in zip(parts, sizes, strict=True)
    ]
    running = [
        [part[row] for row in contenders(means[part], stderrs[part], size, limits, 4.0)]
        for part, size in zip(parts, sizes, strict=True)
    ]
    down, up = (
        d or critical_value(errors, steps, list(zip(best[1 - i], running[i], strict=True)), (1 + CONFIDENCE) / 2)
        for i in (0, 1)
    )
    found = []
    for a, c, limit in zip(*best, limits, strict=True):
        spread, measured = spreads(errors, steps, a, np.array([c]))[0], means[a] - means[c]
        truth = true[0][sizes[0] <= limit].max() - true[1][sizes[1] <= limit].max()
        found.append((measured - down * spread, measured + up * spread, truth))
    return found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({1: [0.9]}, {1: [0.9]}, id="one each"),
        pytest.param({1: [0.9] * 6}, {1: [0.9] * 6}, id="many equal ones"),
        pytest.param({1: [0.9]}, {1: [0.9] * 20}, id="one against the luckiest of many"),
        pytest.param({1: [0.92] + [0.85] * 9}, {1: [0.92] * 12}, id="a clear best against the luckiest of many"),
        pytest.param({1: [0.99] * 3}, {1: [0.99] * 9}, id="few wrong answers"),
        pytest.param({s: [0.9] for s in range(3)}, {s: [0.9] * 4 for s in range(3)}, id="several sizes"),
    ],
)
def test_the_stated_confidence_is_kept(first, second):
    """Over resampled sweeps, the bounds hold at all sizes at once at least as often as stated."""
    rng = np.random.default_rng(3)
    missed = sum(
        any(not low <= truth <= high for low, high, truth in bounds(first, second, rng)) for _ in range(SWEEPS)
    )
    assert missed / SWEEPS <= 1 - CONFIDENCE + 2 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / SWEEPS)


def test_without_the_correction_luck_is_taken_for_a_difference():
    rng = np.random.default_rng(3)
    found = [bounds({1: [0.9]}, {1: [0.9] * 20}, rng, d=norm.ppf(0.975))[0] for _ in range(60)]
    assert np.mean([not low <= truth <= high for low, high, truth in found]) > 0.15


def test_a_difference_that_is_large_enough_is_told():
    rng = np.random.default_rng(3)
    found = [bounds({1: [0.95] * 5}, {1: [0.85] * 5}, rng)[0] for _ in range(30)]
    assert np.mean([low > 0 for low, _, _ in found]) > 0.9


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
    values = [critical_value(errors, np.zeros(12), [(0, np.arange(1, n))], 0.975) for n in (2, 4, 12)]
    assert values[0] == pytest.approx(norm.ppf(0.975), abs=0.04)
    assert values == sorted(values)
    # Independent differences: d is where the normal distribution to the power of their number has the confidence.
    pairs = [(0, np.array([1])), (2, np.array([3])), (4, np.array([5]))]
    assert critical_value(errors, np.zeros(12), pairs, 0.975) == pytest.approx(norm.ppf(0.975 ** (1 / 3)), abs=0.05)


def test_pairs_that_never_differ_are_not_taken_for_certainty():
    errors = np.tile(np.random.default_rng(0).standard_normal((500, 1)), 2)
    for step in (0.0, 0.1):
        found = critical_value(errors, np.full(2, step), [(0, np.array([1]))], 0.975)
        assert found == pytest.approx(norm.ppf(0.975))


def test_contenders_fit_and_are_near_the_best():
    running = contenders(
        gains=np.array([0.5, 0.9, 0.89, 0.95]),
        stderrs=np.full(4, 0.01),
        sizes=np.array([1.0, 2.0, 2.0, 4.0]),
        limits=np.array([0.5, 1.0, 2.0, 4.0]),
        screen=4.0,
    )
    assert running.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
