"""Where on a training a ladder's rungs lie."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from prunedlora.pruning.ladder import Ladder, Rung, rungs_of

LADDER = Ladder(
    unit="kept", sizes=(0.5, 0.25), trunk=0.5, shares=None, removal="one_shot", removal_end=None, every_steps=None,
    rate="restart", rung_rate=1.0, warmup=0.1, branch=None, optimizer_state="new",
)  # fmt: skip


def ladder(**values: Any) -> Ladder:
    return replace(LADDER, **values)


def test_trunk_and_equal_shares() -> None:
    assert rungs_of(LADDER, 800) == (
        Rung(0, 0, 0, 400, 400),
        Rung(1, 400, 400, 600, 600),
        Rung(2, 600, 600, 800, 800),
    )


def test_shares_are_of_what_follows_the_trunk() -> None:
    assert [rung.end for rung in rungs_of(ladder(trunk=0.2, shares=(1.0, 3.0)), 100)] == [20, 40, 100]


def test_removal_ends_within_its_rung_and_before_its_branch() -> None:
    events = ladder(removal="cubic", removal_end=0.5, every_steps=2)
    assert [rung.removed for rung in rungs_of(events, 80)] == [0, 50, 70]
    branched = replace(events, removal_end=1.0, branch=0.25)
    assert rungs_of(branched, 80) == (Rung(0, 0, 0, 30, 40), Rung(1, 40, 55, 55, 60), Rung(2, 60, 75, 75, 80))
    # 0.7 of 10 steps is 7.000000000000001 in binary: no step more.
    assert rungs_of(ladder(removal="cubic", removal_end=0.7, every_steps=1, sizes=(0.5,)), 20)[1].removed == 17


@pytest.mark.parametrize("num_steps", [9, 12, 100, 1601])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"trunk": 0.3, "shares": (1.0, 0.7)},
        {"branch": 0.4},
        {"branch": 0.01, "removal": "cubic", "removal_end": 0.9, "every_steps": 3},
    ],
)
def test_rungs_follow_each_other_without_gap_to_the_last_step(num_steps: int, values: dict[str, Any]) -> None:
    rungs = rungs_of(ladder(**values), num_steps)
    assert [rung.number for rung in rungs] == [0, 1, 2]
    assert (rungs[0].begin, rungs[-1].end) == (0, num_steps)
    assert all(before.end == after.begin for before, after in pairwise(rungs))
    for rung in rungs:
        assert rung.begin <= rung.removed <= rung.branch <= rung.end
        assert rung.begin < rung.branch
        assert (rung.branch_steps > 0) == ("branch" in values)
        expected = values.get("branch", 0.0) * (rung.end - rung.begin)
        assert rung.branch_steps == 1 or math.isclose(rung.branch_steps, expected, abs_tol=0.5)


@pytest.mark.parametrize(
    ("values", "num_steps", "message"),
    [
        ({"trunk": 0.01}, 40, "the trunk of the ladder lacks a step in a training of 40 steps"),
        ({"trunk": 0.9}, 4, "rung 1 of the ladder lacks a step in a training of 4 steps"),
        ({"shares": (1.0, 0.01)}, 40, "rung 2 of the ladder lacks a step in a training of 40 steps"),
        ({"branch": 0.2}, 3, "rung 1 of the ladder lacks a step of its own and one of its branch in a training of 3"),
    ],
)
def test_a_training_too_short_names_the_first_rung_without_steps(
    values: dict[str, Any], num_steps: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rungs_of(ladder(**values), num_steps)


@pytest.mark.parametrize("more", [{}, {"branch": 0.2}, {"removal": "cubic", "removal_end": 0.5, "every_steps": 1}])
def test_a_trunk_that_is_there_already_has_no_steps(more: dict[str, Any]) -> None:
    trunk, first, second = rungs_of(ladder(trunk=0.0, **more), 20)
    assert (trunk.number, trunk.begin, trunk.removed, trunk.branch, trunk.end) == (0, 0, 0, 0, 0)
    assert [(rung.number, rung.begin, rung.end) for rung in (first, second)] == [(1, 0, 10), (2, 10, 20)]
