"""What the bootstrap says is what is so: means, intervals, and bounds.

Whether stated confidence is kept: tests/benchmarks/test_coverage.py.
"""

import numpy as np
import pytest
from scipy.stats import binomtest, norm, poisson

from prunedlora.benchmarks.product.simulated_sweep import right_or_wrong
from prunedlora.results.analysis.confidence import draw_means, interval_of, shortfall_bounds
from prunedlora.results.record import Figure


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("right", [0, 1, 199, 388, 400])
def test_the_interval_of_a_share_is_the_exact_one(right):
    share = right / 400
    figure = Figure(value=share, stderr=(share * (1 - share) / 399) ** 0.5, num_examples=400)
    expected = binomtest(right, 400).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose(interval_of("accuracy", figure, 0.95), expected, atol=1e-12)


def test_one_of_many_has_the_interval_that_holds_for_all():
    figure = Figure(value=0.9, stderr=0.015, num_examples=400)
    expected = binomtest(360, 400).proportion_ci(1 - 0.05 / 28, method="exact")
    np.testing.assert_allclose(interval_of("accuracy", figure, 0.95, 28), expected, atol=1e-3)


def test_a_loss_has_no_interval():
    assert interval_of("loss", Figure(value=2.5, stderr=0.25, num_examples=400), 0.9) is None
    assert interval_of("accuracy", Figure(value=0.5, num_examples=1), 0.9) is None


def test_draws_spread_as_the_standard_error_and_pairs_move_together():
    scores = right_or_wrong([[0.9], [0.88]], 400, rng())
    draws = draw_means(scores, None, rng())
    np.testing.assert_allclose(draws.mean(0), scores.mean(1), atol=2e-3)
    np.testing.assert_allclose(draws.std(0), scores.std(1) / 20, rtol=0.08)
    paired = (draws[:, 0] - draws[:, 1]).std()
    np.testing.assert_allclose(paired, (scores[0] - scores[1]).std() / 20, rtol=0.08)
    assert paired < 0.9 * np.hypot(*draws.std(0))


def test_a_loss_is_a_ratio_of_sums():
    targets = rng().integers(1, 9, size=(1, 300)).astype(float)
    sums = 2.0 * targets  # 2 per target, however many there are
    np.testing.assert_allclose(draw_means(sums, targets, rng()), 2.0)


def test_a_thousand_candidates_on_two_thousand_examples_are_drawn_at_once():
    """A matrix of weights times one of outcomes: the size that the front of a large sweep needs."""
    scores = (rng().random((1000, 2000)) < 0.9).astype(float)
    draws = draw_means(scores, None, rng(), 100)
    assert draws.shape == (100, 1000)
    np.testing.assert_allclose(draws.std(0).mean(), 0.3 / np.sqrt(2000), rtol=0.05)


def bounds(scores, confidence=0.95, resolution=None, num_draws=4000):
    measured = scores.mean(1)
    step = 1 / scores.shape[1] if resolution is None else resolution
    errors = draw_means(scores, None, rng(), num_draws) - measured
    return shortfall_bounds(measured, errors, confidence, rng(), one_more=lambda _: np.full(len(scores), step))


@pytest.mark.parametrize("num_lost", [0, 1, 3, 20])
def test_rare_losses_are_bounded_as_by_the_exact_limit_of_a_count(num_lost):
    """Garwood's upper limit for a rare count: the mean at which so few would be seen in 5 % of the cases."""
    scores = np.ones((2, 1000))
    scores[1, :num_lost] = 0.0
    means = np.arange(0, 60, 0.001)
    exact = means[np.argmax(poisson.cdf(num_lost, means) <= 0.05)] / 1000
    np.testing.assert_allclose(bounds(scores)[1], exact, rtol=0.05)


def test_what_never_differs_has_no_doubt():
    scores = np.tile(rng().random(50), (2, 1))
    assert bounds(scores, resolution=0.0).tolist() == [0.0, 0.0]


def test_nobody_to_compare_with():
    assert bounds(np.ones((1, 50))).tolist() == [0.0]


def test_an_unknown_error_bounds_nothing_and_spoils_no_other():
    errors = np.stack([0.01 * rng().standard_normal(500) for _ in range(3)], axis=1)
    means = np.array([0.9, 0.9, 0.8])

    def of(means, errors):
        return shortfall_bounds(means, errors, 0.95, rng(), one_more=lambda _: np.zeros(len(means)))

    before = of(means[:2], errors[:, :2])
    errors[:, 2] = np.nan
    np.testing.assert_allclose(of(means, errors), [*before, np.inf])
    means[2] = 1.0  # the best measured may be anything
    assert of(means, errors).tolist() == [np.inf] * 3


def test_one_far_behind_is_not_taken_for_the_best_and_that_changes_no_bound(monkeypatch):
    scores = right_or_wrong([[0.9], [0.89], [0.88], [0.7], [0.5]], 400, rng())
    found = bounds(scores)
    monkeypatch.setattr("prunedlora.results.analysis.confidence.BEATEN", np.inf)
    np.testing.assert_array_equal(bounds(scores), found)


def test_draws_in_blocks_are_the_draws_at_once(monkeypatch):
    scores = rng().random((3, 50))
    whole = draw_means(scores, None, rng(), 40)
    monkeypatch.setattr("prunedlora.results.analysis.confidence.MOST_DRAWN", 50 * 7)
    np.testing.assert_allclose(draw_means(scores, None, rng(), 40), whole, rtol=1e-12)


def test_the_interval_of_fractions_is_as_narrow_as_they_vary():
    """Half points for every example say more than as many right and wrong ones; no spread at all says no more."""
    scores = rng().beta(8, 8, 400)
    stderr = scores.std(ddof=1) / 400**0.5
    low, high = interval_of("rouge", Figure(value=scores.mean(), stderr=stderr, num_examples=400), 0.95)
    np.testing.assert_allclose((low, high), norm.interval(0.95, scores.mean(), stderr), atol=1e-3)
    binary = interval_of("rouge", Figure(value=0.5, stderr=(0.25 / 399) ** 0.5, num_examples=400), 0.95)
    assert interval_of("rouge", Figure(value=0.5, stderr=0.0, num_examples=400), 0.95) == pytest.approx(binary)
