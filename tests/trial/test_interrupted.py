"""A trial that is interrupted, by a node, a kill, or at its very end: nothing is lost that was there already."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from prunedlora.adapters.verify import VerificationError
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.record import Cut, Failure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.data import BatchOrder
from prunedlora.training.distributed import PeerLostError, Workers
from prunedlora.training.harness import HarnessError
from prunedlora.training.loop import Verdict
from prunedlora.trial import begin as begin_module
from prunedlora.trial import candidates as candidates_module
from prunedlora.trial import execute as execute_module
from prunedlora.trial import resume
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.begin import begin, load
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.last_words import last_words, words_left
from prunedlora.trial.outside_error import NodeError, OutsideError
from tests.ranks import run_ranks
from tests.tiny import sweep_tree

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
SVD = {"adapter.method": "svd", "pruning": None, "svd": {"ranks": [4, 1]}}


class KilledError(BaseException):
    """What no `except Exception` sees."""


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep_tree(tmp_path_factory.mktemp("tiny"), "unused")


@pytest.fixture
def store(tree: dict[str, Any], tmp_path: Path) -> Store:
    return new_store(tree, tmp_path / "store")


def new_store(tree: dict[str, Any], path: Path) -> Store:
    store = Store(str(path))
    store.create_or_open(tree)
    return store


def trial_of(tree: dict[str, Any], values: dict[str, Any] | None = None) -> TrialConfig:
    return trial_with(parse_sweep(tree, "test").trial, values or {})


def run(
    trial: TrialConfig,
    store: Store,
    assets: AssetCache,
    progress: Callable[[int, int, float], Verdict] = lambda *_: Verdict.CONTINUE,
    workers: Workers = ALONE,
    key: str | None = None,
    max_attempts: int = 2,
    **more: Any,
) -> str:
    return execute_trial(
        trial, key or trial_key(trial), store=store, assets=assets, workers=workers, epoch=1, max_attempts=max_attempts,
        report=lambda _: Verdict.CONTINUE, progress=progress, **more,
    )  # fmt: skip


def record_of(trial: TrialConfig, store: Store) -> TrialRecord:
    record = store.read_record(trial_key(trial))
    assert record is not None
    return record


def results(trial: TrialConfig, store: Store) -> list[Any]:
    """Figures and weights of every candidate."""
    found = []
    for candidate in record_of(trial, store).candidates:
        path = Path(store.uri, "trials", trial_key(trial), str(candidate.adapter_path), "adapter_model.safetensors")
        weights = {name: tensor.tolist() for name, tensor in load_file(path).items()}
        found.append((candidate.name, candidate.figures, candidate.ranks, candidate.tokens_seen, weights))
    return found


def killed_at(*steps: int) -> Callable[[int, int, float], Verdict]:
    """Kills each time one of these steps is done for the first time."""
    left = list(steps)

    def progress(step: int, *_: float) -> Verdict:
        if step in left:
            left.remove(step)
            raise KilledError
        return Verdict.CONTINUE

    return progress


# --- loading


def test_a_file_that_vanishes_is_the_nodes_and_no_attempt(tmp_path: Path) -> None:
    own = sweep_tree(tmp_path, "unused")
    store, trial = new_store(own, tmp_path / "store"), trial_of(own)
    data, key = Path(own["trial"]["data"]["train"]["name"]), trial_key(trial)
    data.rename(tmp_path / "elsewhere.csv")
    with pytest.raises(NodeError, match=rf"trial {key} could not be loaded on node \S+: LocationError: '{data}' does"):
        run(trial, store, AssetCache(CPU), key=key)
    assert store.read_record(key) is None
    assert store.num_attempts(key) == 0
    (tmp_path / "elsewhere.csv").rename(data)
    assert run(trial, store, AssetCache(CPU)) == "completed"


def test_what_the_configuration_asks_for_in_vain_is_the_users(
    tree: dict[str, Any], store: Store, assets: AssetCache
) -> None:
    trial = trial_of(tree, {"adapter.target_modules": ["no_such_layer"]})
    assert run(trial, store, assets) == "failed"
    record = record_of(trial, store)
    assert record.failure is not None
    assert (record.failure.type, record.failure.fault, record.attempts) == ("TargetError", "user", 1)


class _Hears(Workers):
    """Rank 0 of two; rank 1 says something of its own."""

    def gather(self, value: Any) -> list[Any]:
        return [value, HEARD]


HEARD: Any = None


def test_workers_hear_of_what_another_one_cannot_load(
    tree: dict[str, Any], assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, workers = trial_of(tree), _Hears(0, 2, CPU)
    failure = Failure(type="OSError", message="429 Client Error", fault="node", traceback="")
    monkeypatch.setitem(globals(), "HEARD", (False, failure))
    with pytest.raises(NodeError, match=r"^rank 1: 429 Client Error$"):
        load(trial, "k", assets, workers)
    monkeypatch.setitem(globals(), "HEARD", (True, failure))
    assert load(trial, "k", assets, workers) is failure


# --- after loading


def test_a_full_disk_is_the_nodes_and_the_trial_goes_on(
    tree: dict[str, Any], store: Store, assets: AssetCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(tree)

    def export_to_a_full_disk(*_: Any) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with monkeypatch.context() as patch:
        patch.setattr(candidates_module, "export", export_to_a_full_disk)
        with pytest.raises(NodeError, match=r"was interrupted on node \S+: OSError: .*\(a disk is full: \[Errno 28\]"):
            run(trial, store, assets)
    assert store.read_record(trial_key(trial)) is None
    assert "rank 0 was interrupted: OSError: [Errno 28] No space left" in last_words(
        words_left(store, trial_key(trial)), (1, 1)
    )
    assert run(trial, store, assets) == "completed"
    whole = new_store(tree, tmp_path / "whole")
    run(trial, whole, assets)
    assert results(trial, store) == results(trial, whole)


def test_an_adapter_that_does_nothing_yet_is_a_candidate(
    tree: dict[str, Any], store: Store, assets: AssetCache
) -> None:
    """Its certificate says so; the trial goes on."""
    trial = trial_of(tree, {"optimizer.learning_rate": 1e-30})
    assert run(trial, store, assets) == "completed", record_of(trial, store).failure
    for candidate in record_of(trial, store).candidates:
        assert candidate.certificate is not None
        assert candidate.certificate["max_logit_change"] == 0.0


# --- the harness at the end


class FakeHarness:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.num_calls = 0

    def measure(self, *_: Any) -> Any:
        self.num_calls += 1
        raise self.error


@pytest.mark.parametrize("error", [HarnessError("harness/a/acc is nan"), RuntimeError("a task's own")], ids=type)
def test_a_harness_that_fails_leaves_a_completed_trial(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    harness, trial = FakeHarness(error), trial_of(tree, SVD)
    monkeypatch.setattr(begin_module, "load_harness", lambda *_: harness)
    assert run(trial, store, assets) == "completed"
    candidates = record_of(trial, store).candidates
    assert [candidate.name for candidate in candidates] == ["6", "12", "12r4", "12r1"]
    assert candidates[0].harness_failure is None
    for candidate in candidates[1:]:
        assert candidate.harness_failure is not None
        assert (candidate.harness_failure.type, candidate.harness_failure.message) == (type(error).__name__, str(error))


def test_a_harness_that_fails_by_the_node_is_asked_once_more(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a slot is closed for failures before a first step: the training is over, each start begins behind it."""
    harness, trial = FakeHarness(ModuleNotFoundError("No module named 'math_verify'")), trial_of(tree)
    monkeypatch.setattr(begin_module, "load_harness", lambda *_: harness)
    for _ in range(2):
        with pytest.raises(NodeError, match=r"^lm-evaluation-harness failed on node \S+: ModuleNotFoundError: No"):
            run(trial, store, assets, max_attempts=1)
        assert store.read_record(trial_key(trial)) is None
    assert run(trial, store, assets, killed_at(*range(13)), max_attempts=1) == "completed"
    last = record_of(trial, store).candidates[-1]
    assert harness.num_calls == 2
    assert last.harness_failure is not None
    assert (last.harness_failure.type, last.harness_failure.fault) == ("ModuleNotFoundError", "node")
    assert words_left(store, trial_key(trial)) == []


def test_a_harness_may_lose_its_peer_as_often_as_it_likes(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, trial = FakeHarness(PeerLostError("another worker is gone")), trial_of(tree)
    monkeypatch.setattr(begin_module, "load_harness", lambda *_: harness)
    for _ in range(3):
        with pytest.raises(PeerLostError):
            run(trial, store, assets, max_attempts=9)
    assert harness.num_calls == 3


def test_a_harness_that_leaves_workers_out_of_step_is_done_without_in_the_next_attempt(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, trial = FakeHarness(torch.OutOfMemoryError("no room")), trial_of(tree)
    monkeypatch.setattr(begin_module, "load_harness", lambda *_: harness)
    with monkeypatch.context() as patch:
        patch.setattr(execute_module, "_is_out_of_step", lambda *_: True)
        with pytest.raises(OutsideError, match="lm-evaluation-harness failed: OutOfMemoryError: no room"):
            run(trial, store, assets)
    assert store.read_record(trial_key(trial)) is None
    assert run(trial, store, assets, killed_at(*range(13))) == "completed"  # no step is done again
    last = record_of(trial, store).candidates[-1]
    assert harness.num_calls == 1
    assert last.harness_failure is not None
    assert (last.harness_failure.type, last.harness_failure.message) == ("OutOfMemoryError", "no room")


# --- kills, attempts, checkpoints


@pytest.mark.parametrize(("values", "dies_at"), [({}, "12"), (SVD, "12"), (SVD, "12r4"), (SVD, "12r1")])
def test_a_kill_in_a_last_evaluation_costs_no_training(
    tree: dict[str, Any],
    store: Store,
    assets: AssetCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    dies_at: str,
) -> None:
    """And no evaluation that was through: of a training that is truncated afterwards, the others alone are left."""
    trial, make = trial_of(tree, values), execute_module.make_candidate
    whole = new_store(tree, tmp_path / "whole")
    assert run(trial, whole, assets) == "completed"
    made: list[str] = []

    def make_or_die(*given: Any, cut: Cut | None, **named: Any) -> Any:
        made.append(f"{given[0].step}" + (cut.name if cut else ""))
        if made[-1] == dies_at and made.count(dies_at) == 1:
            raise KilledError
        return make(*given, cut=cut, **named)

    monkeypatch.setattr(execute_module, "make_candidate", make_or_die)
    with pytest.raises(KilledError):
        run(trial, store, assets)
    num_made = len(made)
    assert run(trial, store, assets, killed_at(*range(13))) == "completed"
    names = [candidate.name for candidate in record_of(trial, store).candidates]
    assert made[num_made:] == names[names.index(dies_at) :]
    assert results(trial, store) == results(trial, whole)
    assert store.checkpoints(trial_key(trial)) == []


def test_preemptions_with_checkpoints_between_do_not_fail_a_trial(
    tree: dict[str, Any], store: Store, assets: AssetCache, tmp_path: Path
) -> None:
    """Of at most two starts without a new checkpoint; five kills later it is what it would have been."""
    trial, told = trial_of(tree), list[None]()
    kills = killed_at(3, 5, 7, 9, 11)
    for _ in range(5):
        with pytest.raises(KilledError):
            run(trial, store, assets, kills, checkpoint_every_steps=1, checkpointed=lambda: told.append(None))
    assert run(trial, store, assets, checkpoint_every_steps=1) == "completed"
    assert len(told) >= 5
    whole = new_store(tree, tmp_path / "whole")
    run(trial, whole, assets)
    assert results(trial, store) == results(trial, whole)


def test_deaths_without_a_new_checkpoint_fail_a_trial(tree: dict[str, Any], store: Store, assets: AssetCache) -> None:
    trial = trial_of(tree)
    with pytest.raises(KilledError):
        run(trial, store, assets, killed_at(5), checkpoint_every_steps=4)
    for _ in range(2):
        with pytest.raises(KilledError):
            run(trial, store, assets, killed_at(5))
    assert run(trial, store, assets) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert failure.message.startswith(
        "this trial was interrupted 3 times since its last new checkpoint; its workers left"
    )
    assert failure.fault is None
    assert record_of(trial, store).train_seconds > 0.0  # as the checkpoint has it


def test_what_a_trial_had_found_is_in_its_record_when_it_is_interrupted_too_often(
    tree: dict[str, Any], store: Store, assets: AssetCache
) -> None:
    trial, key = trial_of(tree), trial_key(trial_of(tree))
    for _ in range(3):
        with pytest.raises(KilledError):
            run(trial, store, assets, killed_at(8))
    assert run(trial, store, assets) == "failed"
    record = record_of(trial, store)
    assert [candidate.step for candidate in record.candidates] == [6]
    assert record.train_seconds >= record.candidates[0].train_seconds > 0.0
    (name,) = store.checkpoints(key)
    state = store.trial_path(key, "checkpoints", name, "state.json")
    for broken, why in (("{", "JSONDecodeError"), ('{"state": {}}', "'candidates'")):
        store.storage.write_text(state, broken)
        for _ in range(2):
            store.begin_attempt(key, 1)
        assert run(trial, store, assets, max_attempts=1) == "failed"
        failure = record_of(trial, store).failure
        assert failure is not None
        assert "; what it had found is lost: " in failure.message
        assert why in failure.message


@pytest.fixture
def sick(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """A context in which the device fails before a first step."""

    def broken(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    @contextmanager
    def context() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(execute_module, "load_checkpoint", broken)
            yield

    return context


def test_a_sick_device_costs_no_trial_its_record(
    tree: dict[str, Any], store: Store, assets: AssetCache, sick: Callable[[], Any]
) -> None:
    """Its slot is closed after three; the healthy one trains."""
    trial = trial_of(tree)
    with sick():
        for _ in range(3):
            with pytest.raises(NodeError, match="CUDA error"):
                run(trial, store, assets)
    assert run(trial, store, assets) == "completed"
    assert record_of(trial, store).attempts == 4


def test_a_trial_that_breaks_every_device_fails_before_it_closes_a_second_slot(
    tree: dict[str, Any], store: Store, assets: AssetCache, sick: Callable[[], Any]
) -> None:
    trial = trial_of(tree)
    with sick():
        for _ in range(5):
            with pytest.raises(NodeError, match="CUDA error"):
                run(trial, store, assets)
    assert run(trial, store, assets) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert failure.message.startswith(
        "this trial was interrupted 5 times before it had done a step; rank 0 was interru"
    )
    assert "before its first step: RuntimeError: CUDA error: an illegal" in failure.message


def test_sick_devices_before_a_new_checkpoint_are_forgiven(
    tree: dict[str, Any], store: Store, assets: AssetCache, sick: Callable[[], Any]
) -> None:
    """Whatever broke them, the trial has gone on elsewhere since then; under another driver too."""
    trial, key = trial_of(tree), trial_key(trial_of(tree))

    def breaks() -> None:
        with sick():
            for _ in range(4):
                with pytest.raises(NodeError, match="CUDA error"):
                    run(trial, store, assets)

    breaks()
    with pytest.raises(KilledError):
        run(trial, store, assets, killed_at(8))
    assert store.last_checkpointed(key) == (1, 5)
    breaks()
    assert begin(store, key, 2, 2, None).failure is None
    assert run(trial, store, assets) == "completed"


def test_a_device_that_fails_later_counts(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(step: int, *_: float) -> Verdict:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    for _ in range(2):
        with pytest.raises(NodeError):
            run(trial_of(tree), store, assets, broken)
    assert run(trial_of(tree), store, assets) == "failed"
    failure = record_of(trial_of(tree), store).failure
    assert failure is not None
    assert failure.message.startswith("this trial was interrupted 2 times; rank 0 was interrupted: RuntimeError: CUDA")


# --- memory outside of the passes


def test_a_check_for_which_memory_lacks_takes_fewer_examples(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, most, seen = candidates_module.verify, [2], list[int]()

    def limited(*given: Any, **options: Any) -> Any:
        seen.append(len(given[3]["input_ids"]))
        if seen[-1] > most[0]:
            raise VerificationError("PEFT cannot load") from torch.OutOfMemoryError("CUDA out of memory")
        return verify(*given, **options)

    monkeypatch.setattr(candidates_module, "verify", limited)
    assert run(trial_of(tree), store, assets) == "completed"
    assert seen == [4, 2, 4, 2]
    certificate = record_of(trial_of(tree), store).candidates[-1].certificate
    assert certificate is not None
    assert certificate["num_examples"] == 2
    most[0] = 0
    other = trial_of(tree, {"seed": 1})
    assert run(other, store, assets) == "failed"
    assert seen[4:] == [4, 2, 1]
    failure = record_of(other, store).failure
    assert failure is not None
    assert failure.fault is None


def test_memory_that_lacks_outside_of_a_pass_is_nobodys_fault_and_keeps_what_was_found(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, num_steps = torch.optim.AdamW.step, list[None]()

    def lacking(*given: Any) -> Any:
        num_steps.append(None)
        if len(num_steps) == 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(*given)

    monkeypatch.setattr(torch.optim.AdamW, "step", lacking)
    assert run(trial_of(tree), store, assets) == "failed"
    record = record_of(trial_of(tree), store)
    assert record.failure is not None
    assert (record.failure.type, record.failure.fault) == ("OutOfMemoryError", None)
    assert [candidate.step for candidate in record.candidates] == [6]


@pytest.mark.parametrize("given", [[], [[]]], ids=["before the first pass", "after an empty one"])
def test_memory_that_lacks_between_passes_is_told_as_what_it_is(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch, given: list[Any]
) -> None:
    def lacking(*_: Any, **__: Any) -> Iterator[Any]:
        yield from given
        raise MemoryError("no room for indices")

    monkeypatch.setattr(BatchOrder, "micro_batches", lacking)
    assert run(trial_of(tree), store, assets) == "failed"
    failure = record_of(trial_of(tree), store).failure
    assert failure is not None
    assert (failure.type, failure.fault) == ("MemoryError", None)
    assert failure.message == "no room for indices"


def test_the_store_knows_which_attempt_left_the_last_checkpoint(store: Store) -> None:
    assert store.last_checkpointed("k") == (0, 0)
    for epoch, attempt in ((9, 7), (10, 1), (10, 2)):
        store.note_checkpoint("k", epoch, attempt)
    assert store.last_checkpointed("k") == (10, 2)


def test_checkpoints_are_left_by_time(tree: dict[str, Any], store: Store, assets: AssetCache) -> None:
    trial, seen = trial_of(tree), list[int]()
    with pytest.raises(KilledError):
        run(trial, store, assets, killed_at(4), checkpoint_every_seconds=1e-9)
    assert [int(name.partition("-")[0]) for name in store.checkpoints(trial_key(trial))] == [3]
    run(
        trial, store, assets, lambda step, *_: (seen.append(step), Verdict.CONTINUE)[1], checkpoint_every_seconds=3600.0
    )
    assert seen == list(range(4, 13))


def test_a_pause_waits_for_its_checkpoint(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, trial = resume.write_checkpoint, trial_of(tree)
    monkeypatch.setattr(resume, "write_checkpoint", lambda *given: (time.sleep(0.3), write(*given)))
    assert run(trial, store, assets, lambda *_: Verdict.PAUSE) == "paused"
    assert store.checkpoints(trial_key(trial)) == ["00000001-000"]


def test_a_checkpoint_that_cannot_be_written_is_raised_in_the_training(
    tree: dict[str, Any], store: Store, assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "write_checkpoint", full)
    trial = trial_of(tree)
    with pytest.raises(NodeError, match="a disk is full"):
        run(trial, store, assets, checkpoint_every_steps=1)
    assert store.read_record(trial_key(trial)) is None
    other = trial_of(tree, {"evaluation.milestones": []})
    assert run(other, store, assets) == "completed"  # the one before the last evaluation is needed no more
    (line,) = [line for line in store.read_log(trial_key(other)) if "checkpoint_not_stored" in line]
    assert line["checkpoint_not_stored"] == "OSError: [Errno 28] No space left on device"


def _fails_alone(rank: int, uri: str, config: dict[str, Any], rendezvous: str) -> None:
    """Rank 1 fails at its third step; rank 0 is killed before it hears of it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)

    def progress(step: int, *_: float) -> Verdict:
        if step == 2:
            os._exit(9)
        return Verdict.CONTINUE

    assets, trial = AssetCache(CPU), TrialConfig.model_validate(config)
    if rank == 1:
        task, calls = assets.get(trial).task, list[None]()
        collate = task.collate

        def collate_twice(features: Any) -> Any:
            calls.append(None)
            if len(calls) == 2:
                raise ValueError("a row that no other rank has")
            return collate(features)

        object.__setattr__(task, "collate", collate_twice)
    run(trial, Store(uri), assets, progress, Workers(rank, 2, CPU))


@pytest.mark.slow
def test_a_rank_that_fails_alone_costs_one_training(
    tree: dict[str, Any], store: Store, assets: AssetCache, tmp_path: Path
) -> None:
    trial = trial_of(tree)
    run_ranks(_fails_alone, 2, store.uri, trial.model_dump(), str(tmp_path / "rendezvous"))
    if store.read_record(trial_key(trial)) is None:  # rank 0 may have heard of it at its next sum
        assert run(trial, store, assets, killed_at(*range(13))) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert failure.message == "rank 1 failed: ValueError: a row that no other rank has"
