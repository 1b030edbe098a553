"""The course of a training: rates, positions and candidates at every step, with and without a ladder."""

from dataclasses import replace
from typing import Any

import pytest

from prunedlora.pruning.ladder import Ladder
from prunedlora.training.course import Course
from prunedlora.training.rate import rate_factor

RESTART = Ladder(
    unit="kept", sizes=(0.5, 0.25), trunk=0.5, shares=None, removal="one_shot", removal_end=None, every_steps=None,
    rate="restart", rung_rate=0.5, warmup=0.2, branch=None, optimizer_state="new",
)  # fmt: skip
OTHER: dict[str, Any] = {"rung_rate": None, "warmup": None, "optimizer_state": "kept"}
CONTINUE = replace(RESTART, rate="continue", **OTHER)
BRANCH = replace(RESTART, rate="branch", branch=0.2, **OTHER)


def test_without_a_ladder_it_is_one_rate_and_its_milestones() -> None:
    course = Course(12, 0.25, "linear", milestones={6})
    assert [course.rate(step) for step in range(12)] == [rate_factor(step, 12, 0.25, "linear") for step in range(12)]
    assert course.candidates == {6, 12}
    assert [course.position(step) for step in range(12)] == list(range(12))
    assert (course.rungs, course.rung(3), course.rung_from(6), course.branch_from(6)) == ((), None, None, None)
    assert not course.is_in_branch(3)
    assert not course.renews_optimizer


def test_a_continued_rate_is_that_of_a_training_without_a_ladder() -> None:
    course, plain = Course(40, 0.1, "cosine", CONTINUE), Course(40, 0.1, "cosine")
    assert [course.rate(step) for step in range(40)] == [plain.rate(step) for step in range(40)]
    assert course.candidates == {20, 30, 40}


def test_a_restarted_rate_is_one_of_trunk_and_of_each_rung() -> None:
    course = Course(40, 0.1, "linear", RESTART)
    assert [course.rate(step) for step in range(20)] == [rate_factor(step, 20, 0.1, "linear") for step in range(20)]
    rung = [0.5 * rate_factor(step, 10, 0.2, "linear") for step in range(10)]
    assert [course.rate(step) for step in range(20, 40)] == rung + rung
    assert rung[:3] == [0.25, 0.5, 0.5]
    assert course.renews_optimizer


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_a_branch_decays_from_the_peak_and_the_line_stays_at_it(decay: Any) -> None:
    course = Course(40, 0.2, decay, BRANCH)
    rates = [course.rate(step) for step in range(40)]
    assert rates[:16] == [rate_factor(step, 16, 0.2, "constant") for step in range(16)]
    assert rates[3:17] == [1.0] * 14
    assert rates[16:20] == [rate_factor(step, 4, 0.0, decay) for step in range(4)]
    assert rates[20:28] == rates[30:38] == [1.0] * 8
    assert rates[28:30] == rates[38:40] == [rate_factor(step, 2, 0.0, decay) for step in range(2)]
    assert rates[19] <= 0.25


def test_a_branch_sees_what_the_line_sees_after_it() -> None:
    course = Course(40, 0.2, "linear", BRANCH)
    positions = [course.position(step) for step in range(40)]
    assert positions[16:20] == positions[20:24] == list(range(16, 20))
    line = [step for step in range(40) if not (16 <= step < 20 or 28 <= step < 30 or 38 <= step < 40)]
    assert [positions[step] for step in line] == list(range(32))


def test_borders_branches_and_rungs_are_told_by_the_steps_done() -> None:
    course = Course(40, 0.2, "linear", BRANCH)
    assert [step for step in range(41) if course.branch_from(step)] == [16, 28, 38]
    assert [step for step in range(41) if course.rung_from(step)] == [20, 30]
    assert [step for step in range(41) if course.is_in_branch(step)] == [17, 18, 19, 20, 29, 30, 39, 40]
    numbers = [rung.number for step in range(41) if (rung := course.rung(step))]
    assert numbers == [0] * 21 + [1] * 10 + [2] * 10


def test_a_training_too_short_for_its_ladder_is_refused() -> None:
    with pytest.raises(ValueError, match="rung 2 of the ladder lacks a step in a training of 2 steps"):
        Course(2, 0.0, "linear", RESTART)


@pytest.mark.parametrize("decay", ["linear", "constant"])
def test_without_a_trunk_the_first_rung_begins_with_the_training(decay: Any) -> None:
    """Its rates are those after the trunk of a ladder that has one; with branches its line has the warm-up."""
    course, whole = Course(20, 0.1, decay, replace(RESTART, trunk=0.0)), Course(40, 0.1, decay, RESTART)
    assert [course.rate(step) for step in range(20)] == [whole.rate(step) for step in range(20, 40)]
    assert course.candidates == {0, 10, 20}
    assert [step for step in range(21) if course.rung_from(step)] == [0, 10]
    assert [rung.number for step in range(21) if (rung := course.rung(step))] == [0] + [1] * 10 + [2] * 10
    plain = Course(20, 0.1, decay)
    assert [Course(20, 0.1, decay, replace(CONTINUE, trunk=0.0)).rate(i) for i in range(20)] == [
        plain.rate(i) for i in range(20)
    ]
    branched = Course(20, 0.5, decay, replace(BRANCH, trunk=0.0))
    assert [step for step in range(21) if branched.branch_from(step)] == [8, 18]
    assert [branched.rate(step) for step in range(10)] == [
        *(rate_factor(step, 8, 0.5, "constant") for step in range(8)),
        *(rate_factor(step, 2, 0.0, decay) for step in range(2)),
    ]
    assert not branched.is_in_branch(0)
    assert [branched.position(step) for step in (0, 8, 10)] == [0, 8, 8]


def test_without_steps_there_is_one_candidate() -> None:
    course = Course(0, 0.1, "linear")
    assert course.candidates == {0}
    assert course.position(0) == 0
    assert (course.rung(0), course.rung_from(0), course.branch_from(0)) == (None, None, None)
