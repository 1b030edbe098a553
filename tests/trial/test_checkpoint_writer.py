"""Checkpoints beside the training: copies, one at a time, and what goes wrong in them."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prunedlora.methods.lora import Lora
from prunedlora.results.store import Store
from prunedlora.training.course import Course
from prunedlora.training.trial import Trial
from prunedlora.trial import checkpoint_writer, resume
from prunedlora.trial.checkpoint_writer import CheckpointWriter
from prunedlora.trial.resume import Snapshot, snapshot

KEY = "k"


def taken(step: int) -> Snapshot:
    state = {"step": step, "train_seconds": 0.0, "tokens_seen": 0, "candidates": [], "screened_cuts": []}
    return Snapshot(step, {"parameter:a": torch.full((3,), float(step))}, state)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def writer(store: Store, told: list[Any]) -> CheckpointWriter:
    return CheckpointWriter(store, KEY, (1, 1), lambda: None, lambda: told.append(store.checkpoints(KEY)))


def test_what_is_changed_afterwards_is_stored_as_it_was() -> None:
    """Parameters, and the optimizer's state, which fused kernels change in place."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    method: Any = object.__new__(Lora)
    course = Course(4, 0.0, "constant")
    live = Trial(model, None, method, optimizer, None, course, None, torch.float32, 0)  # type: ignore[arg-type]

    def step() -> None:
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    step()
    before = snapshot(live, [], [])
    expected = {name: tensor.clone() for name, tensor in before.tensors.items()}
    assert {name.partition(":")[0] for name in expected} == {"parameter", "optimizer"}
    step()
    after = snapshot(live, [], []).tensors
    assert all(torch.equal(before.tensors[name], tensor) for name, tensor in expected.items())
    assert not any(torch.equal(after[name], tensor) for name, tensor in expected.items() if "weight" in name)


def test_one_at_a_time_and_told_once_it_is_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    free, told = threading.Event(), list[Any]()
    write, threads = checkpoint_writer.store_checkpoint, list[str]()

    def slowly(*given: Any) -> bool:
        threads.append(threading.current_thread().name)
        assert free.wait(10)
        return write(*given)

    monkeypatch.setattr(checkpoint_writer, "store_checkpoint", slowly)
    beside = writer(store, told)
    beside.save(taken(1))
    beside.look()  # does not wait
    assert (told, store.checkpoints(KEY)) == ([], [])
    free.set()
    beside.save(taken(2))
    assert told == [["00000001-000"]]
    beside.wait()
    assert told == [["00000001-000"], ["00000002-000"]]
    assert threads == ["checkpoint-00000001-000", "checkpoint-00000002-000"]
    assert store.num_attempts_since_checkpoint(KEY, 1) == -1 + store.num_attempts(KEY)
    beside.save(taken(2))  # there already: no progress
    beside.wait()
    assert len(told) == 2


def test_what_goes_wrong_is_raised_at_the_next_occasion(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "write_checkpoint", full)
    told = list[Any]()
    for occasion in (lambda w: w.wait(), lambda w: w.save(taken(2)), lambda w: (w._writing.exception(), w.look())):
        beside = writer(store, told)
        beside.save(taken(1))
        with pytest.raises(OSError, match="No space left on device"):
            occasion(beside)
        assert beside.end() is None
    beside = writer(store, told)
    beside.save(taken(1))
    assert isinstance(beside.end(), OSError)
    assert (told, store.checkpoints(KEY)) == ([], [])


def test_a_later_checkpoint_of_a_step_has_a_later_name() -> None:
    """None is replaced, so that there is one at any time."""
    first = taken(12)
    second = Snapshot(12, first.tensors, first.state | {"candidates": [{}]})
    assert sorted([second.name, first.name, taken(6).name]) == ["00000006-000", "00000012-000", "00000012-001"]
