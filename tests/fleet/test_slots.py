"""Slots without Ray: how often one is started again, and when it is given up."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.train import ControllerError, WorkerGroupError

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.fleet import slots as slots_module
from prunedlora.fleet.slots import MOST_FAILURES, Slots, SlotsLostError
from prunedlora.results.storage import Storage


class FakeBoard:
    """Calls answered at once, in place of an actor handle."""

    def __init__(self) -> None:
        self.finished = 0
        self.given_up: list[int] = []
        self.num_finished = SimpleNamespace(remote=lambda slot: self.finished)
        self.give_up = SimpleNamespace(remote=self.given_up.append)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    monkeypatch.setattr(ray, "get", lambda value: value)
    monkeypatch.setattr(slots_module, "BACK_OFF_SECONDS", 0.0)
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
    slots = Slots([SimpleNamespace(slot=0, board=board)], ResourcesConfig(), Storage("/nowhere"))  # type: ignore[list-item]
    slots.start()
    for thread in slots._threads:
        thread.join(10)
    return slots, len(runs)


def died() -> WorkerGroupError:
    return WorkerGroupError("trouble", {0: ValueError("no such thing")})


def lost() -> ControllerError:
    return ControllerError(RuntimeError("the controller is gone"))


def test_workers_that_never_work_lose_the_slot_and_the_sweep(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, runs = kept(board, [died()], monkeypatch)
    assert (runs, board.given_up) == (1, [0])
    with pytest.raises(SlotsLostError, match="all 1 slots failed; slot 0: ValueError: no such thing"):
        slots.check()


def test_a_slot_that_finished_work_is_started_again(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_work() -> WorkerGroupError:
        board.finished += 1
        return died()

    slots, runs = kept(board, [after_work, after_work, after_work, None], monkeypatch)
    assert (runs, board.given_up) == (4, [])
    slots.check()


def test_a_lost_controller_is_forgiven_a_few_times(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, runs = kept(board, [lost()] * (MOST_FAILURES - 1), monkeypatch)
    assert (runs, slots.errors) == (MOST_FAILURES, {})
    slots, runs = kept(board, [lost()] * MOST_FAILURES, monkeypatch)
    assert runs == MOST_FAILURES
    assert slots.errors == {0: "RuntimeError: the controller is gone"}
