"""Areas against the closed form of steps, bounds against scipy's intervals, answers at their borders."""

import random
from math import log10

import pytest
from scipy import stats

from prunedlora.benchmarks.ladder_answers import at_most, everywhere, mean_gain, paired, place, takes_little


def steps(gains: dict[int, float], base: float, smallest: int, largest: int) -> float:
    """The mean of a step function: at each log size the best that is at most that large, above the base."""
    borders = [log10(size) for size in sorted(gains)] + [log10(2 * largest)]
    area, best = 0.0, base
    for size, begin, end in zip(sorted(gains), borders, borders[1:], strict=False):
        best = max(best, gains[size])
        area += (best - base) * (end - begin)
    return area / (log10(2 * largest) - log10(smallest))


def test_the_mean_gain_is_that_of_the_steps() -> None:
    draw = random.Random(0)
    for _ in range(50):
        sizes = draw.sample(range(10, 5000), draw.randint(1, 6))
        gains = {size: draw.uniform(-1, 1) for size in sizes}
        expected = steps(gains, -0.2, 10, 5000)
        assert mean_gain(gains, -0.2, 10, 5000) == pytest.approx(expected, abs=1e-12)


def test_the_same_quality_at_every_size_is_the_mean_gain() -> None:
    assert mean_gain({100: 0.7, 1000: 0.7}, 0.2, 100, 1000) == pytest.approx(0.5, abs=1e-12)
    # The larger one alone: for the upper log10 2 of log10 20.
    assert mean_gain({1000: 0.7}, 0.2, 100, 1000) == pytest.approx(0.5 * log10(2) / log10(20), abs=1e-12)


def test_what_is_not_above_the_base_adds_nothing() -> None:
    assert mean_gain({100: 0.2, 1000: 0.1}, 0.2, 100, 1000) == 0.0
    assert mean_gain({}, 0.2, 100, 1000) == 0.0
    assert mean_gain({100: 0.1, 500: 0.6}, 0.2, 100, 500) == mean_gain({500: 0.6}, 0.2, 100, 500)


def test_bounds_are_those_of_students_t() -> None:
    values = [0.01, 0.03, -0.02, 0.05, 0.0]
    found = paired(values)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.90)  # 5 % on each side
    assert (found.lower, found.upper) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.mean, found.num) == (pytest.approx(0.014), 5)


def test_answers_need_a_bound_on_their_side() -> None:
    some = paired([0.01, 0.03])  # 0.02 ± 0.01, bounds 0.02 ∓ 0.063
    assert at_most(some, 0.02) == "not told"
    assert at_most(some, 0.09) == "yes"
    assert at_most(some, -0.05) == "no"
    assert place(some) == "not told"
    assert (place(paired([0.02, 0.021])), place(paired([-0.02, -0.021]))) == ("ahead", "behind")
    assert (at_most(paired([0.02, 0.02]), 0.02), at_most(paired([0.02, 0.02]), 0.01)) == ("yes", "no")


def test_a_single_seed_tells_nothing() -> None:
    assert paired([0.5]).stderr is None
    assert (at_most(paired([0.5]), 1.0), at_most(paired([0.5]), 0.1), place(paired([0.5]))) == ("not told",) * 3


def test_everywhere_is_yes_only_where_all_say_so() -> None:
    assert everywhere(["yes", "yes"]) == "yes"
    assert everywhere(["yes", "not told"]) == "not told"
    assert everywhere(["yes", "not told", "no"]) == "no"
    assert everywhere([]) == "not told"


def test_seeds_that_only_the_other_has_keep_it_from_yes_and_ahead() -> None:
    small, large = paired([0.01, 0.011]), paired([0.05, 0.051])
    assert (at_most(small, 0.02), at_most(small, 0.02, 1)) == ("yes", "not told")
    assert at_most(large, 0.02, 1) == "no"
    assert at_most(None, 0.02) == "not told"
    assert (place(small, 0, 1), place(small, 1, 0)) == ("ahead", "not told")
    below = paired([-0.01, -0.011])
    assert (place(below, 1, 0), place(below, 0, 1)) == ("behind", "not told")


def test_little_is_a_quarter_or_less() -> None:
    assert [takes_little(steps, 400) for steps in (99, 100, 101)] == [True, True, False]
