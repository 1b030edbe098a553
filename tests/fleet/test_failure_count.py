"""How often a slot may fail: in a row before the first step, and since the last progress."""

from prunedlora.fleet.board import Standing
from prunedlora.fleet.failure_count import FailureCount


def at(num_advances: int = 0, *, joined: bool = True, stepped: bool = False) -> Standing:
    return {"node": "10.0.0.2", "num_advances": num_advances, "joined": joined, "stepped": stepped}


def test_a_sick_node_is_closed_after_three_failures_before_the_first_step() -> None:
    count = FailureCount(max_attempts=3)
    assert [count.note(at(), died=False) for _ in range(3)] == [None, None, "after 3 failures before the first step"]


def test_processes_that_die_before_they_are_ready_are_the_nodes() -> None:
    count = FailureCount(max_attempts=9)
    assert [count.note(at(joined=False), died=True) for _ in range(2)] == [None, None]
    assert count.note(at(joined=False), died=True) == "after 3 failures before the first step"


def test_a_trial_that_kills_its_workers_does_not_take_the_slot_with_it() -> None:
    """It has its failed record at attempt max_attempts + 1, and that is a piece of work brought to an end."""
    count = FailureCount(max_attempts=3)
    for _ in range(3):
        assert count.note(at(), died=True) is None
    for num_trials in range(1, 9):  # one such trial after the other
        for _ in range(3):
            assert count.note(at(num_trials), died=True) is None


def test_preemptions_with_progress_between_never_close_a_slot() -> None:
    count = FailureCount(max_attempts=3)
    for num_checkpoints in range(50):
        assert count.note(at(num_checkpoints, stepped=True), died=True) is None
        assert count.in_a_row == 1


def test_deaths_without_progress_close_it_in_the_end() -> None:
    count = FailureCount(max_attempts=3)
    told = [count.note(at(7, stepped=True), died=bool(number % 2)) for number in range(5)]
    assert told == [*[None] * 4, "after 5 failures without a new checkpoint or a finished trial between"]


def test_a_first_step_between_is_no_row() -> None:
    count = FailureCount(max_attempts=9)
    for stepped in (False, False, True, False, False):
        assert count.note(at(stepped=stepped), died=False) is None
    assert count.note(at(), died=False) == "after 3 failures before the first step"
