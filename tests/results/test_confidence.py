"""What the bootstrap says is what is so: means, and bounds that keep their stated confidence."""

import numpy as np
import pytest
from scipy.stats import norm

from prunedlora.results.confidence import draw_means, shortfall_bounds


def scored(true: np.ndarray, n: int, rng: np.random.Generator, correlation: float = 0.8) -> np.ndarray:
    """Right or wrong (C, n) at true accuracies (C,), on examples that are as hard for one as for the other."""
    shared = np.sqrt(correlation) * rng.standard_normal(n)
    own = np.sqrt(1 - correlation) * rng.standard_normal((len(true), n))
    return (shared + own < norm.ppf(true)[:, None]).astype(float)


def test_draws_spread_as_the_standard_error_and_pairs_move_together():
    rng = np.random.default_rng(0)
    scores = scored(np.array([0.9, 0.88]), 400, rng)
    draws = draw_means(scores, None, rng)
    np.testing.assert_allclose(draws.mean(0), scores.mean(1), atol=2e-3)
    np.testing.assert_allclose(draws.std(0), scores.std(1) / 20, rtol=0.08)
    paired = (draws[:, 0] - draws[:, 1]).std()
    np.testing.assert_allclose(paired, (scores[0] - scores[1]).std() / 20, rtol=0.08)
    assert paired < 0.9 * np.hypot(*draws.std(0))


def test_a_loss_is_a_ratio_of_sums():
    rng = np.random.default_rng(0)
    targets = rng.integers(1, 9, size=(1, 300)).astype(float)
    sums = 2.0 * targets  # 2 per target, however many there are
    np.testing.assert_allclose(draw_means(sums, targets, rng), 2.0)


@pytest.mark.parametrize(
    "shortfalls",
    [
        pytest.param([0.0, 0.041], id="one just too bad"),
        pytest.param([0.0] + [0.041] * 11, id="many just too bad, of which the luckiest is looked at"),
        pytest.param([0.0] + [0.0] * 5, id="all equal"),
        pytest.param([0.0, 0.01, 0.02, 0.06, 0.1], id="a front"),
    ],
)
def test_the_stated_confidence_is_kept(shortfalls):
    """Over resampled sweeps, the smallest candidate that is said to be at most 0.04 worse than the best is so at least
    as often as stated."""
    rng = np.random.default_rng(1)
    true = 0.9 - np.array(shortfalls)
    wrong = said = 0
    for _ in range(200):
        scores = scored(true, 300, rng)
        means = scores.mean(1)
        best = int(means.argmax())
        others = [c for c in range(len(true)) if c != best]
        bounds = shortfall_bounds(means, draw_means(scores, None, rng, 200), best, others, 0.9)
        chosen = [c for c, bound in zip(others, bounds, strict=True) if bound <= 0.04]
        if chosen:
            said += 1
            wrong += true.max() - true[max(chosen)] > 0.04  # later ones are smaller
    assert wrong / 200 <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 200)
    if max(shortfalls) == 0:
        assert said > 40  # it does say something


def test_candidates_that_never_differ_have_no_doubt():
    scores = np.tile(np.array([1.0, 0.0, 1.0, 1.0]), (2, 1))
    draws = draw_means(scores, None, np.random.default_rng(0))
    assert shortfall_bounds(scores.mean(1), draws, 0, [1], 0.95).tolist() == [0.0]
    assert len(shortfall_bounds(scores.mean(1), draws, 0, [], 0.95)) == 0
