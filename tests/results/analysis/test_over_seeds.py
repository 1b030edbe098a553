"""Means over seeds: intervals that hold, noise of each setting by itself, and nothing told where nothing can be."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from prunedlora.results.analysis.confidence import draw_means
from prunedlora.results.analysis.over_seeds import MeanContrast, mean_contrasts

NUM_DRAWS = 500


def exact(*gains: list[float], pairs=((0, 1),), confidence=0.95, seed=0) -> list[MeanContrast]:
    """Trainings measured without any noise of examples."""
    arrays = [np.array(each) for each in gains]
    errors = [np.zeros((20_000, len(each))) for each in gains]
    return mean_contrasts(arrays, errors, pairs, confidence, np.random.default_rng(seed))


def share_that_holds(sds, num_seeds, num_examples=0, num_sims=150, pairs=((0, 1),), confidence=0.9) -> float:
    """Share of simulations in which all pairs' intervals hold the truth: equal means, `sds` over seeds."""
    rng, holds = np.random.default_rng(0), 0
    for _ in range(num_sims):
        true = [0.8 + sd * rng.standard_normal(num_seeds) for sd in sds]
        if num_examples:
            hard = rng.normal(0, 0.1, num_examples)  # the same for all: candidates err together
            scores = [(rng.random((num_seeds, num_examples)) < t[:, None] + hard).astype(float) for t in true]
            gains = [own.mean(1) for own in scores]
            drawn = draw_means(np.concatenate(scores), None, rng, NUM_DRAWS) - np.concatenate(gains)
            errors = np.split(drawn, len(sds), axis=1)
        else:
            gains, errors = true, [np.zeros((NUM_DRAWS, num_seeds)) for _ in sds]
        resolution = 1 / num_examples if num_examples else 0.0
        found = mean_contrasts(gains, errors, pairs, confidence, rng, resolution=resolution)
        holds += all(one.low <= 0 <= one.high for one in found)
    return holds / num_sims


@pytest.mark.parametrize(
    ("sds", "num_seeds", "num_examples", "pairs"),
    [
        ((0.01, 0.01), 3, 200, ((0, 1),)),
        ((0.02, 0.02), 3, 200, ((0, 1),)),
        ((0.02, 0.02), 2, 0, ((0, 1),)),
        ((0.002,) * 6 + (0.03,), 3, 0, tuple((c, 6) for c in range(6))),
        ((0.02,) * 4, 3, 0, tuple((a, b) for a in range(4) for b in range(a))),
    ],
)
def test_equal_means_lie_within_the_intervals_as_often_as_is_said(sds, num_seeds, num_examples, pairs):
    assert share_that_holds(sds, num_seeds, num_examples, pairs=pairs) >= 0.9 - 0.02


def test_without_noise_of_examples_it_is_about_as_wide_as_a_t_interval():
    """Scipy's Welch interval is exact to nobody; with many seeds all agree, with few ours is the wider one."""
    rng = np.random.default_rng(1)
    for num, tolerance in ((3, 0.6), (12, 0.1), (60, 0.04)):
        one, other = rng.normal(0.8, 0.02, num), rng.normal(0.79, 0.01, num)
        (ours,) = exact(list(one), list(other))
        theirs = ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
        assert ours.difference == pytest.approx(one.mean() - other.mean())
        widths = ours.high - ours.low, theirs.high - theirs.low
        assert 0.97 < widths[0] / widths[1] < 1 + tolerance


def test_at_the_same_seeds_it_is_students_interval_of_their_differences():
    rng = np.random.default_rng(3)
    shared = 0.05 * rng.standard_normal(5)
    gains = [0.8 + shared + 0.004 * rng.standard_normal(5), 0.79 + shared]
    zeros = [np.zeros((40_000, 5))] * 2
    (paired,) = mean_contrasts(gains, zeros, [(0, 1)], 0.9, rng, seeds=[range(5), range(5)])
    theirs = ttest_1samp(gains[0] - gains[1], 0.0).confidence_interval(0.9)
    assert (paired.low, paired.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low))
    for seeds in ([range(5), range(1, 6)], [[None] * 5] * 2):
        (alone,) = mean_contrasts(gains, zeros, [(0, 1)], 0.9, rng, seeds=seeds)
        assert alone.high - alone.low > 5 * (paired.high - paired.low)


def test_a_restless_setting_does_not_hide_behind_steady_ones():
    steady = [0.800, 0.801, 0.799]
    contrasts = exact(*[steady] * 6, [0.9, 0.8, 0.7], pairs=[(6, c) for c in range(6)] + [(0, 1)])
    assert contrasts[0].high - contrasts[0].low > 0.3
    assert contrasts[-1].high - contrasts[-1].low < 0.03


def test_what_examples_explain_is_not_counted_as_noise_of_the_seeds():
    rng = np.random.default_rng(0)
    gains = [0.8 + 0.02 * rng.standard_normal(3) for _ in range(2)]
    noisy = [0.02 * rng.standard_normal((20_000, 3)) for _ in range(2)]
    (ours,) = mean_contrasts(gains, noisy, [(0, 1)], 0.95, rng)
    doubled = [0.02 * np.sqrt(2) * rng.standard_normal((20_000, 3)) for _ in range(2)]
    (twice,) = mean_contrasts(gains, doubled, [(0, 1)], 0.95, rng)
    alone = exact(*map(list, gains))[0]
    assert ours.high - ours.low < (alone.high - alone.low) + 2 * 1.96 * 0.02 * np.sqrt(2 / 3)
    assert twice.high - twice.low < 1.5 * (ours.high - ours.low)


@pytest.mark.parametrize("lost", [[0.8], [0.8, np.nan, 0.81], [0.8, -np.inf]])
def test_of_one_training_or_a_failed_one_nothing_can_be_told(lost):
    found = exact([0.7, 0.71], lost, [0.9, 0.9, 0.91], pairs=[(0, 1), (1, 0), (2, 0)])
    assert [(one.low, one.high) for one in found[:2]] == [(-np.inf, np.inf)] * 2
    assert found[0].difference == pytest.approx(0.705 - np.mean([x for x in lost if np.isfinite(x)]))
    assert np.isfinite([found[2].low, found[2].high]).all()


def test_a_setting_of_which_all_failed_has_no_difference():
    (found,) = exact([0.7, 0.71], [np.nan, np.nan])
    assert np.isnan(found.difference)
    assert found.high == np.inf


def test_figures_that_are_equal_by_rounding_are_not_known_for_certain():
    gains = [np.array([0.8, 0.8]), np.array([0.8, 0.8])]
    errors = [np.zeros((4000, 2))] * 2
    (found,) = mean_contrasts(gains, errors, [(0, 1)], 0.95, np.random.default_rng(0), resolution=0.01)
    assert found.low < -0.02 < 0.02 < found.high


def test_an_example_that_was_not_seen_may_cost_a_loss_more():
    gains, errors = [np.array([-1.0, -1.01])] * 2, [np.zeros((8000, 2))] * 2
    widths = [
        mean_contrasts(gains, errors, [(0, 1)], 0.9, np.random.default_rng(0), rare=rare)[0].high for rare in (0, 0.5)
    ]
    assert widths[0] < 0.5 < widths[1]
