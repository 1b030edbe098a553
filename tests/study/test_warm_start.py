"""What trials of earlier sweeps say of this one, as pure functions: nearest settings, scales, judgement, weight."""

import itertools
import random

import numpy as np
import pytest

from prunedlora.config.space import Choice, IntRange, LogInt, LogUniform, SpaceEntry, Uniform
from prunedlora.study.warm_start import (
    FEWEST_JUDGED,
    FEWEST_WRONG,
    MOST_JUDGED,
    MOST_TOLD,
    Compared,
    Prediction,
    WarmTrial,
    carried,
    compare,
    num_worth,
    spread,
    stage,
)

OBJECTIVES = {"accuracy": "maximize", "adapter_params": "minimize"}
SPACE: dict[str, SpaceEntry] = {
    "rate": LogUniform(log_uniform=(1e-4, 1e-2)),
    "rank": LogInt(log_int=(1, 100)),
    "share": Uniform(uniform=(0.0, 2.0)),
    "steps": IntRange(int=(10, 30), step=10),
    "name": Choice(choice=["cubic", "one_shot"]),
}


@pytest.mark.parametrize(
    ("near", "params"),
    [
        (0, {"rate": 9e-4}),  # in the logarithm: linear it would be the other
        (1, {"rate": 1.2e-3, "name": "cubic"}),  # another choice is as far as a whole range
        (0, {"rate": 1e-4, "share": 0.1}),
        (1, {"rate": 1e-2, "steps": 30}),
    ],
)
def test_a_source_predicts_what_its_nearest_setting_came_to(near: int, params: dict[str, object]) -> None:
    rest = {"rank": 10, "share": 0.0, "steps": 10, "name": "one_shot"}
    trials = [
        WarmTrial("s", rest | {"rate": 1e-4}, (0.1, 100.0)),
        WarmTrial("s", rest | {"rate": 1e-2, "name": "cubic", "steps": 30}, (0.9, 300.0)),
    ]
    assert Prediction(trials, SPACE).of(rest | params) == trials[near].values
    twice = [trials[0], WarmTrial("s", trials[0].params, (0.3, 100.0)), trials[1]]
    assert Prediction(twice, SPACE).of(trials[0].params) == pytest.approx((0.2, 100.0))


def test_a_parameter_that_only_one_has_is_as_far_as_another_choice() -> None:
    trials = [WarmTrial("s", {"rate": 1e-3, "share": 0.0}, (0.1, 1.0)), WarmTrial("s", {"rate": 1e-2}, (0.9, 1.0))]
    assert Prediction(trials, SPACE).of({"rate": 1e-3}) == (0.9, 1.0)


def test_values_carried_over_keep_their_order() -> None:
    rng = random.Random(0)
    for num in range(12):
        predicted = [rng.choice([0.1, 0.2, 0.5, rng.random()]) for _ in range(num)]
        came = [rng.choice([5.0, 10 * rng.random()]) for _ in range(num)]
        values = sorted(rng.uniform(-1, 2) for _ in range(50))
        moved = [carried(value, predicted, came) for value in values]
        assert all(low <= high + 1e-12 for low, high in itertools.pairwise(moved))
        if num == 0:
            assert moved == values


def test_a_source_that_is_right_but_for_its_scale_lands_on_what_trials_came_to() -> None:
    predicted = [0.3, 0.9, 0.5, 0.4]
    came = [3.0 * value - 7.0 for value in predicted]
    values = np.linspace(-1, 2, 31).tolist()
    assert [carried(value, predicted, came) for value in values] == pytest.approx(
        [3.0 * value - 7.0 for value in values]
    )
    assert carried(0.5, [0.3], [10.0]) == pytest.approx(10.2)  # one trial tells where, not how wide
    assert carried(0.5, [0.3, 0.3], [10.0, 12.0]) == pytest.approx(12.2)


def brute_force(predicted: list[tuple[float, float]], came: list[tuple[float, float]]) -> tuple[int, int]:
    right = wrong = 0
    for i, j in itertools.permutations(range(len(came)), 2):
        if predicted[i][1] <= predicted[j][1] and predicted[i][0] > predicted[j][0] and came[i][1] <= came[j][1]:
            right += came[i][0] > came[j][0]
            wrong += came[i][0] < came[j][0]
    return right, wrong


def test_comparisons_are_counted_as_by_brute_force() -> None:
    rng = random.Random(1)
    for num in range(10):
        predicted = [(rng.choice([0.1, 0.2, 0.3, 0.4]), float(rng.choice([1, 2, 3]))) for _ in range(num)]
        came = [(rng.choice([0.1, 0.2, 0.3, 0.4]), float(rng.choice([1, 2, 3]))) for _ in range(num)]
        found = compare(predicted, came, OBJECTIVES)
        assert (found.num_right, found.num_wrong) == brute_force(predicted, came)
        swapped = {"adapter_params": "minimize", "loss": "minimize"}
        other = compare([(s, -q) for q, s in predicted], [(s, -q) for q, s in came], swapped)
        assert other == found
        assert compare(came, came, OBJECTIVES).num_wrong == 0


def test_a_source_is_dropped_when_it_is_wrong_more_than_twice_as_often_as_right() -> None:
    assert Compared(0, 0).holds
    assert Compared(0, FEWEST_WRONG - 1).holds
    assert not Compared(0, FEWEST_WRONG).holds
    assert Compared(5, 10).holds
    assert not Compared(5, 11).holds


def test_what_sources_are_worth_fades_while_own_trials_double() -> None:
    assert [stage(num) for num in (0, 1, 2, 3, 4, 7, 8, 1000)] == [0, 1, 2, 2, 4, 4, 8, MOST_JUDGED]
    assert [num_worth(num) for num in (0, FEWEST_JUDGED, 2 * FEWEST_JUDGED, 4 * FEWEST_JUDGED)] == [
        MOST_TOLD, MOST_TOLD, MOST_TOLD // 2, MOST_TOLD // 4,
    ]  # fmt: skip
    assert num_worth(MOST_JUDGED) == 1


def test_numbers_are_spread_evenly_with_both_ends() -> None:
    assert spread(3, 5) == [0, 1, 2]
    assert spread(9, 3) == [0, 4, 8]
    assert spread(9, 1) == [0]
    assert all(len(spread(num, most)) == min(num, most) for num in range(40) for most in range(1, 20))
