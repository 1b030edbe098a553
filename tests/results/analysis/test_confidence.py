"""What the bootstrap says is what is so: means, noise of seeds, and bounds.

Whether stated confidence is kept: tests/benchmarks/test_coverage.py.
"""

import numpy as np
import pytest
from scipy.stats import binomtest, norm, poisson
from scipy.stats import t as student

from prunedlora.benchmarks.product.coverage import simulate
from prunedlora.results.analysis.confidence import (
    draw_means,
    interval_of,
    means_over_seeds,
    seed_noise,
    shortfall_bounds,
)
from prunedlora.results.record import Figure


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("right", [0, 1, 199, 388, 400])
def test_the_interval_of_a_share_is_wilson_s(right):
    share = right / 400
    figure = Figure(value=share, stderr=(share * (1 - share) / 399) ** 0.5, num_examples=400)
    expected = binomtest(right, 400).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(interval_of("accuracy", figure, 0.95), expected, atol=1e-12)


def test_the_interval_of_a_loss_is_the_normal_one():
    expected = norm.interval(0.9, loc=2.5, scale=0.25)
    found = interval_of("loss", Figure(value=2.5, stderr=0.25, num_examples=400), 0.9)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert interval_of("loss", Figure(value=2.5, num_examples=1), 0.9) is None


def test_draws_spread_as_the_standard_error_and_pairs_move_together():
    scores = simulate([[0.9], [0.88]], 400, rng())
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


def test_means_over_seeds():
    owner = np.array([0, 0, 1])
    np.testing.assert_array_equal(means_over_seeds(np.array([1.0, 3.0, 7.0]), owner), [2.0, 7.0])
    unknown = means_over_seeds(np.array([[1.0, 3.0, np.nan]]), owner)  # spoils its own configuration alone
    np.testing.assert_array_equal(unknown, [[2.0, np.nan]])


def test_one_seed_each_says_nothing_of_noise_between_trainings():
    assert seed_noise(np.array([0.9, 0.8]), np.zeros((50, 2)), np.array([0, 1]), rng()) is None


def test_noise_of_seeds_is_pooled_and_as_wide_as_students_t():
    """Without noise of examples, errors of a mean over n seeds are those of a t test with the pooled variance."""
    measured = np.array([0.90, 0.92, 0.94, 0.80, 0.86])
    owner = np.array([0, 0, 0, 1, 1])
    found = seed_noise(measured, np.zeros((40_000, 5)), owner, rng())
    pooled = np.sqrt((0.02**2 * 2 + 0.03**2 * 2) / 3)
    assert found.degrees == 3
    np.testing.assert_allclose(found.deviation, pooled)
    np.testing.assert_allclose(found.variance, pooled**2 / np.array([3, 2]))
    for place, num_seeds in enumerate((3, 2)):
        expected = student.ppf(0.95, 3) * pooled / np.sqrt(num_seeds)
        np.testing.assert_allclose(np.quantile(found.draws[:, place], 0.95), expected, rtol=0.03)
        normal = norm.ppf(0.95) * pooled / np.sqrt(num_seeds)
        np.testing.assert_allclose(np.quantile(found.draws_if_known[:, place], 0.95), normal, rtol=0.03)


def test_differences_that_the_examples_explain_are_no_noise_of_seeds():
    scores = simulate([[0.9] * 200], 400, rng())
    measured = scores.mean(1)
    errors = draw_means(scores, None, rng(), 500) - measured
    found = seed_noise(measured, errors, np.zeros(200, dtype=int), rng())
    assert measured.std() > 0.009  # of the examples on which the seeds differ
    assert found.deviation < 0.004


def bound(scores, best=0, chosen=(1,), confidence=0.95, resolution=None):
    measured = scores.mean(1)
    return shortfall_bounds(
        measured,
        draw_means(scores, None, rng(), 4000) - measured,
        best,
        chosen,
        confidence,
        rng(),
        resolution=1 / scores.shape[1] if resolution is None else resolution,
    ).upper


@pytest.mark.parametrize("num_lost", [0, 1, 3, 20])
def test_rare_losses_are_bounded_as_by_the_exact_limit_of_a_count(num_lost):
    """Garwood's upper limit for a rare count: the mean at which so few would be seen in 5 % of the cases."""
    scores = np.ones((2, 1000))
    scores[1, :num_lost] = 0.0
    means = np.arange(0, 60, 0.001)
    exact = means[np.argmax(poisson.cdf(num_lost, means) <= 0.05)] / 1000
    np.testing.assert_allclose(bound(scores), exact, rtol=0.08)


def test_a_loss_that_never_differs_has_no_doubt():
    scores = np.tile(rng().random(50), (2, 1))
    assert bound(scores, resolution=0.0).tolist() == [0.0]


def test_nobody_to_compare_with():
    assert bound(np.ones((1, 50)), chosen=()).shape == (0,)


def test_an_unknown_error_bounds_nothing_and_spoils_no_other():
    errors = np.stack([0.01 * rng().standard_normal(500) for _ in range(3)], axis=1)
    means = np.array([0.9, 0.9, 0.9])
    before = shortfall_bounds(means, errors, 0, [1], 0.95, rng()).upper
    errors[:, 2] = np.nan
    after = shortfall_bounds(means, errors, 0, [1, 2], 0.95, rng()).upper
    np.testing.assert_allclose(after, [before[0], np.inf])


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
    np.testing.assert_allclose((low, high), norm.interval(0.95, scores.mean(), stderr), atol=2e-4)
    binary = interval_of("rouge", Figure(value=0.5, stderr=(0.25 / 399) ** 0.5, num_examples=400), 0.95)
    assert interval_of("rouge", Figure(value=0.5, stderr=0.0, num_examples=400), 0.95) == pytest.approx(binary)


def test_rungs_of_one_training_are_one_repeat_of_its_seed():
    """Two trainings that left five rungs each, all off alike: one degree of freedom, and not five."""
    luck = np.array([0.03, -0.03])
    measured = np.concatenate([0.9 - 0.01 * rung + luck for rung in range(5)])
    owner, trainings = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
    found = seed_noise(measured, np.zeros((40_000, 10)), owner, rng(), trainings)
    alone = seed_noise(measured[:2], np.zeros((40_000, 2)), owner[:2], rng())
    assert (found.degrees, alone.degrees) == (1, 1)
    assert found.deviation == pytest.approx(alone.deviation) == pytest.approx(0.03 * 2**0.5)
    assert np.quantile(found.draws[:, 0], 0.9) == pytest.approx(np.quantile(alone.draws[:, 0], 0.9), rel=0.1)
    taken_apart = seed_noise(measured, np.zeros((40_000, 10)), owner, rng())
    assert taken_apart.degrees == 5
    assert np.quantile(found.draws[:, 0], 0.95) > 2 * np.quantile(taken_apart.draws[:, 0], 0.95)
    # Other settings, trained twice too, add a degree; a rung that one training alone reached adds none.
    more = np.concatenate([measured, [0.8, 0.9, 0.7]])
    owners, by = np.concatenate([owner, [5, 5, 6]]), np.concatenate([trainings, [2, 3, 0]])
    assert seed_noise(more, np.zeros((10, 13)), owners, rng(), by).degrees == 2
