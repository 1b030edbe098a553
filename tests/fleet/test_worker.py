"""What a slot's worker does with its work, without Ray."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from prunedlora.config.load import parse_sweep
from prunedlora.fleet import worker
from prunedlora.fleet.board import Work
from prunedlora.fleet.worker import SharedStorageError, check_store, execute_work
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.store import Store
from prunedlora.training.loop import Verdict
from tests.inventions import invented_record, sweep_tree

TRIAL: Work = {"kind": "trial", "key": "a", "candidate": ""}
BASE: Work = {"kind": "base", "key": "", "candidate": ""}


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda value: value)


class Told:
    """A board that remembers what it was told."""

    def __init__(self, answer: str = "continue") -> None:
        self.finished: list[tuple[Any, ...]] = []
        self.asked = 0
        self.finish = SimpleNamespace(remote=lambda slot, status, seconds, why: self.finished.append((status, why)))
        self.progress = SimpleNamespace(remote=self._progress)
        self._answer = answer

    def _progress(self, *_: Any) -> str:
        self.asked += 1
        return self._answer


def bench(board: Told, execute: Any, store: Any = None, num_workers: int = 1) -> Any:
    settings = SimpleNamespace(slot=0, board=board, execute=execute)
    return SimpleNamespace(settings=settings, store=store, workers=SimpleNamespace(rank=0, num_workers=num_workers))


def failing(work: Work, bench: Any) -> str:
    raise ValueError("no such model")


def test_a_store_that_is_not_shared_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    settings: Any = SimpleNamespace(slot=3, epoch=1)
    message = (
        f"slot 3 on node .* does not see the store {re.escape(store.uri)} \\(no driver.json there\\): the storage "
    )
    with pytest.raises(SharedStorageError, match=message + "must be shared by all nodes"):
        check_store(store, settings)
    with DriverLock(store.storage):
        check_store(store, settings)
        settings.epoch = 2
        with pytest.raises(SharedStorageError, match="driver epoch 1, not 2"):
            check_store(store, settings)


def test_work_that_is_done_is_told() -> None:
    board = Told()
    worker._do(TRIAL, bench(board, lambda work, bench: "paused"))
    assert board.finished == [("paused", "")]


def test_other_work_that_fails_is_told_with_its_reason_and_the_slot_goes_on() -> None:
    board = Told()
    worker._do(BASE, bench(board, failing))
    assert board.finished == [("failed", "ValueError: no such model")]
    with pytest.raises(ValueError, match="no such model"):
        worker._do(BASE, bench(board, failing, num_workers=2))
    assert len(board.finished) == 2


def test_a_failed_record_is_told_before_the_workers_are_restarted(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    board = Told()
    with pytest.raises(ValueError, match="no such model"):
        worker._do(TRIAL, bench(board, failing, store, num_workers=2))
    assert board.finished == []
    store.begin_attempt("a", 1)
    failed = invented_record("a", sweep_tree(tmp_path)["trial"], "failed").model_copy(update={"attempts": 1})
    store.write_record(failed, driver_epoch=1)
    store.begin_attempt("a", 1)  # --retry-failed: the record of the time before is there, and says nothing of this one
    with pytest.raises(ValueError, match="no such model"):
        worker._do(TRIAL, bench(board, failing, store, num_workers=2))
    assert board.finished == []
    store.write_record(failed.model_copy(update={"attempts": 2}), driver_epoch=1)
    with pytest.raises(ValueError, match="no such model"):
        worker._do(TRIAL, bench(board, failing, store, num_workers=2))
    assert board.finished == [("failed", "")]


def test_a_trial_that_has_ended_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"))
    trial = parse_sweep(sweep_tree(tmp_path), "test").trial.model_dump(mode="json")
    store.write_config("a", trial)
    settings = SimpleNamespace(epoch=1, max_attempts=3, keep_checkpoints=False, checkpoint_every_steps=None)
    bench: Any = SimpleNamespace(store=store, settings=settings, assets=None, workers=None, progress=None)
    monkeypatch.setattr(worker, "execute_trial", lambda *_, **__: "trained")
    assert execute_work(TRIAL, bench) == "trained"
    for status, outcome in (("failed", "trained"), ("stopped", "stopped"), ("completed", "completed")):
        store.write_record(invented_record("a", trial, status), driver_epoch=1)
        assert execute_work(TRIAL, bench) == outcome


def test_the_board_is_not_asked_at_every_step() -> None:
    board = Told("pause")
    progress = worker._throttled_progress(SimpleNamespace(slot=0, board=board))  # type: ignore[arg-type]
    assert progress(1, 100) is Verdict.PAUSE
    assert [progress(step, 100) for step in range(2, 50)] == [Verdict.CONTINUE] * 48
    assert board.asked == 1
