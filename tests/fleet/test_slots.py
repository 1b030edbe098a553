"""Slots without Ray: how often one is started again, when it is closed, and that one without a place waits."""

import errno
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.fleet import cluster
from prunedlora.fleet import slots as slots_module
from prunedlora.fleet.failure_count import MOST_EARLY
from prunedlora.fleet.slots import Slots, SlotsLostError
from prunedlora.results.storage import Storage
from prunedlora.trial.outside_error import OutsideError


class FakeBoard:
    """Calls answered at once, in place of an actor handle."""

    def __init__(self) -> None:
        self.num_advances = 0
        self.stepped = False
        self.said: list[str] = []
        for name in ("open", "shut", "wait_for_place"):
            setattr(self, name, SimpleNamespace(remote=lambda slot, name=name: self.said.append(name)))
        self.lose = SimpleNamespace(remote=self._lose)

    def _lose(self, slot: int) -> dict[str, Any]:
        self.said.append("lose")
        return {"node": "10.0.0.2", "num_advances": self.num_advances, "joined": True, "stepped": self.stepped}


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    monkeypatch.setattr(ray, "get", lambda value: value)
    monkeypatch.setattr(slots_module, "BACK_OFF_SECONDS", 0.0)
    monkeypatch.setattr(slots_module, "LOOK_SECONDS", 0.0)
    return FakeBoard()


def kept(board: FakeBoard, fits: list[Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Slots, int]:
    """The slots after one slot's runs ended as `fits` say; how many runs there were."""
    runs = []

    def fit(self: Slots, settings: Any, run: int) -> None:
        runs.append(run)
        outcome = fits[run] if run < len(fits) else None
        if callable(outcome):
            outcome = outcome()
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(Slots, "_fit", fit)
    slots = Slots(ResourcesConfig(), Storage("/nowhere"))
    slots.open(SimpleNamespace(slot=0, board=board, max_attempts=3))  # type: ignore[arg-type]
    for thread in slots._threads:
        thread.join(10)
    return slots, len(runs)


def sick() -> WorkerGroupError:
    return WorkerGroupError("trouble", {0: OutsideError("no\nHub"), 1: OutsideError("no\nHub")})


def died() -> WorkerGroupError:
    return WorkerGroupError("trouble", {0: WorkerHealthCheckFailedError("lost", RayActorError())})


def lost() -> ControllerError:
    return ControllerError(RuntimeError("the controller is gone"))


def no_place() -> ControllerError:
    return ControllerError(WorkerGroupStartupTimeoutError(num_workers=1))


def test_a_sick_node_is_closed_after_three_failures_and_the_last_one_ends_the_sweep(
    board: FakeBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots, runs = kept(board, [sick()] * 9, monkeypatch)
    assert (runs, board.said) == (MOST_EARLY, ["open", "lose", "lose", "lose", "shut"])
    text = "slot 0 on node 10.0.0.2 was closed after 3 failures before the first step: OutsideError: no Hub"
    assert slots.closed == {0: text}
    with pytest.raises(SlotsLostError, match=f"no slot is left: {text}. No trial has failed by this: run the same"):
        slots.check()


def test_a_full_disk_is_told_as_such(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    full = WorkerGroupError("trouble", {0: OSError(errno.ENOSPC, "No space left on device", "/tmp/x")})
    slots, _ = kept(board, [full] * MOST_EARLY, monkeypatch)
    assert slots.closed[0].endswith("first step: OSError: [Errno 28] No space left on device: '/tmp/x'")


def test_deaths_with_progress_between_never_close_a_slot(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five preemptions in a week; a checkpoint is progress too."""

    def after_work() -> WorkerGroupError:
        board.num_advances += 1
        return died()

    slots, runs = kept(board, [after_work] * 9, monkeypatch)
    assert (runs, slots.closed) == (10, {})
    slots.check()


def test_deaths_without_progress_close_it(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, runs = kept(board, [died()] * 9, monkeypatch)
    assert runs == 5
    assert "was closed after 5 failures without a new checkpoint or a finished trial" in slots.closed[0]
    assert "RayActorError: The actor experienced an error before finishing this task" in slots.closed[0]


def test_a_lost_controller_is_forgiven_a_few_times(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, runs = kept(board, [lost()] * (MOST_EARLY - 1), monkeypatch)
    assert (runs, slots.closed) == (MOST_EARLY, {})
    slots, runs = kept(board, [lost()] * MOST_EARLY, monkeypatch)
    assert runs == MOST_EARLY
    assert slots.closed[0].endswith("first step: RuntimeError: the controller is gone")


def test_a_slot_without_a_place_waits_and_is_not_closed(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks again at once when something is free, and otherwise from time to time, for an autoscaler to see."""
    free = [{"CPU": 1.0}, {}, {"CPU": 0.5}, {"CPU": 2.0}] * 3
    monkeypatch.setattr(cluster, "available", lambda: free.pop(0))
    slots, runs = kept(board, [no_place()] * 6, monkeypatch)
    assert (runs, slots.closed, free) == (7, {}, [])
    assert board.said == ["open", *["lose", "wait_for_place"] * 6]
