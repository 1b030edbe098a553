"""What a slot's worker does with its work, without Ray."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from huggingface_hub import constants
from transformers.utils import hub

from prunedlora.config.identity import contents, trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.fleet import worker
from prunedlora.fleet.board import WAIT, Work
from prunedlora.fleet.package_sources import own_sources
from prunedlora.fleet.worker import (
    Bench,
    OtherDataError,
    ReplacedError,
    SharedStorageError,
    check_data,
    check_store,
    execute_work,
)
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.record import Decision, Figure, GoesOn, Look, StoredLook
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.sweep import bind
from prunedlora.sweep.bind import bind_data, check_fingerprints, commits_of
from prunedlora.sweep.preflight import preflight
from prunedlora.tasks import sources
from prunedlora.tasks.local_data import load_local
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial import assets
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.outside_error import NodeError, OutsideError
from tests import tiny
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
        self.handed_back: list[tuple[int, int, str]] = []
        self.checkpoints: list[tuple[int, int]] = []
        self.works: list[Any] = []
        self.join = SimpleNamespace(remote=lambda slot, node: 5)
        self.take = SimpleNamespace(remote=lambda slot, start, seconds: self.works.pop(0))
        self.finish = SimpleNamespace(remote=self._finish)
        self.progress = SimpleNamespace(remote=self._progress)
        self.advance = SimpleNamespace(remote=lambda *given: self.checkpoints.append(given) or answer)
        self.hand_back = SimpleNamespace(remote=lambda *given: self.handed_back.append(given))
        self._answer = answer

    def _finish(self, slot: int, start: int, status: str, seconds: float, message: str) -> str:
        assert (slot, start) == (0, 5)
        self.finished.append((status, message))
        return self._answer

    def _progress(self, *_: Any) -> str:
        self.asked += 1
        return self._answer


def bench(board: Told, execute: Any, store: Any = None, num_workers: int = 1) -> Any:
    settings = SimpleNamespace(slot=0, epoch=1, board=board, execute=execute)
    return SimpleNamespace(settings=settings, store=store, workers=SimpleNamespace(rank=0, num_workers=num_workers))


def do(work: Work, board: Told, bench: Any) -> None:
    worker._do(work, bench, words(board))


def words(board: Told) -> Any:
    return worker._Words(SimpleNamespace(slot=0, board=board), 5)  # type: ignore[arg-type]


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
    do(TRIAL, board, bench(board, lambda work, bench: "paused"))
    assert board.finished == [("paused", "")]


def test_other_work_that_fails_is_told_with_its_reason_and_the_slot_goes_on() -> None:
    board = Told()
    do(BASE, board, bench(board, failing))
    assert board.finished == [("failed", "ValueError: no such model")]
    with pytest.raises(ValueError, match="no such model"):
        do(BASE, board, bench(board, failing, num_workers=2))
    assert len(board.finished) == 2


def test_other_work_that_its_node_cannot_do_goes_back_to_the_board() -> None:
    def without_a_hub(work: Work, bench: Any) -> str:
        raise ConnectionError("429")

    board = Told()
    with pytest.raises(ConnectionError, match="429"):
        do(BASE, board, bench(board, without_a_hub))
    assert board.finished == []


def test_a_failed_record_is_told_before_the_workers_are_restarted(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    board = Told()
    with pytest.raises(ValueError, match="no such model"):
        do(TRIAL, board, bench(board, failing, store, num_workers=2))
    assert board.finished == []
    store.begin_attempt("a", 1)
    failed = invented_record("a", sweep_tree(tmp_path)["trial"], "failed").model_copy(update={"attempts": 1})
    store.write_record(failed, driver_epoch=1)
    store.begin_attempt("a", 1)  # --retry-failed: the record of the time before is there, and says nothing of this one
    with pytest.raises(ValueError, match="no such model"):
        do(TRIAL, board, bench(board, failing, store, num_workers=2))
    assert board.finished == []
    store.write_record(failed.model_copy(update={"attempts": 2}), driver_epoch=1)
    with pytest.raises(ValueError, match="no such model"):
        do(TRIAL, board, bench(board, failing, store, num_workers=2))
    assert board.finished == [("failed", "")]


def test_a_trial_that_has_ended_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"))
    trial = parse_sweep(sweep_tree(tmp_path), "test").trial.model_dump(mode="json")
    store.write_config("a", trial)
    settings = SimpleNamespace(
        epoch=1, max_attempts=3, keep_checkpoints=False, checkpoint_every_steps=None, checkpoint_every_seconds=None,
        stopping=None,
    )  # fmt: skip
    bench: Any = SimpleNamespace(
        store=store,
        settings=settings,
        assets=None,
        workers=Workers(0, 1, torch.device("cpu")),
        progress=None,
        checkpointed=None,
    )
    monkeypatch.setattr(worker, "execute_trial", lambda *_, **__: "trained")
    assert execute_work(TRIAL, bench) == "trained"
    for status, outcome in (("failed", "trained"), ("stopped", "stopped"), ("completed", "completed")):
        store.write_record(invented_record("a", trial, status), driver_epoch=1)
        assert execute_work(TRIAL, bench) == outcome
    store.begin_attempt("a", 1)  # of this driver, and it left a failed record before its workers died
    store.write_record(invented_record("a", trial, "failed"), driver_epoch=1)
    assert execute_work(TRIAL, bench) == "failed"
    settings.epoch = 2  # --retry-failed
    assert execute_work(TRIAL, bench) == "trained"


def test_a_trial_that_was_stopped_is_trained_again_where_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, given = Store(str(tmp_path / "store")), sweep_tree(tmp_path)["trial"]
    trial = parse_sweep(sweep_tree(tmp_path), "test").trial.model_dump(mode="json")
    store.write_config("a", trial)
    worked = at_work(store, given)
    worked.settings.stopping = StoppingConfig()  # type: ignore[misc]
    looked: list[Any] = []
    monkeypatch.setattr(worker, "execute_trial", lambda *_, looking, **__: looked.append(looking) or "trained")
    loss = Figure(value=1.0, num_examples=2)
    look = Look(step=2, share=0.1, loss=loss, decision=Decision(stops=True))
    store.write_record(invented_record("a", trial, "stopped").model_copy(update={"looks": (look,)}), driver_epoch=1)
    assert execute_work(TRIAL, worked) == "stopped"
    store.write_goes_on("a", GoesOn(step=1, decision=Decision(stops=False)))  # it did, and was stopped again
    assert execute_work(TRIAL, worked) == "stopped"
    store.write_goes_on("a", GoesOn(step=2, decision=Decision(stops=False)))
    assert execute_work(TRIAL, worked) == "trained"
    stored = StoredLook(look=look, loss_sums=(1.0, 1.0), num_targets=(1, 1))
    assert looked[0].settings == StoppingConfig()
    assert looked[0].judge(stored, False) is None


def test_a_look_is_told_to_the_board_which_decides() -> None:
    board, told = Told(), []
    stored = StoredLook(
        look=Look(step=2, share=0.1, loss=Figure(value=1.0, num_examples=1)), loss_sums=(1.0,), num_targets=(1,)
    )
    said: dict[str, Any] = {"answer": "pause", "decision": {"stops": True}}
    board.look = SimpleNamespace(remote=lambda *given: told.append(given) or said)  # type: ignore[attr-defined]
    assert words(board).look("a", stored, True) == {"stops": True}
    [(slot, start, key, look, is_decided)] = told
    assert (slot, start, key, look["look"]["share"], look["loss_sums"], is_decided) == (0, 5, "a", 0.1, [1.0], True)
    said["answer"] = "replaced"
    with pytest.raises(ReplacedError, match="the workers of start 5 of slot 0 have been replaced"):
        words(board).look("a", stored, False)


def test_the_board_is_not_asked_at_every_step() -> None:
    board = Told("pause")
    progress = words(board).progress
    assert progress(1, 100, 10.0) is Verdict.PAUSE
    assert [progress(step, 100, 10.0) for step in range(2, 50)] == [Verdict.CONTINUE] * 48
    assert board.asked == 1


def test_workers_that_were_replaced_end() -> None:
    board = Told("replaced")
    told = words(board)
    board.works = [{"kind": "replaced", "key": "", "candidate": ""}]
    for say in (
        told.take,
        told.checkpointed,
        lambda: told.progress(1, 2, 10.0),
        lambda: told.finish("completed", 1.0, ""),
    ):
        with pytest.raises(ReplacedError, match="the workers of start 5 of slot 0 have been replaced: they end"):
            say()


def test_a_new_checkpoint_is_told() -> None:
    board = Told()
    words(board).checkpointed()
    assert board.checkpoints == [(0, 5)]


def out_of_disk(work: Work, bench: Any) -> str:
    raise OutsideError("the base model did not load: OSError: [Errno 28] No space left on device")


@pytest.mark.parametrize("work", [TRIAL, BASE])
def test_trouble_around_any_work_hands_it_back_and_ends_the_workers(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is finished for nobody: a sick node must not use up trials, nor the base model's evaluation."""
    board = Told()
    board.works = [WAIT, work]
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(worker, "get_context", lambda: context)
    monkeypatch.setattr(worker, "get_device", lambda: torch.device("cpu"))
    monkeypatch.chdir(tmp_path)
    store = Store(str(tmp_path / "store"))
    with DriverLock(store.storage) as lock:
        settings: Any = SimpleNamespace(
            sources=own_sources(),
            slot=0, board=board, execute=out_of_disk, cpus_per_worker=torch.get_num_threads(), folder=str(tmp_path),
            store_uri=store.uri, epoch=lock.epoch,
        )  # fmt: skip
        with pytest.raises(OutsideError, match="No space left on device"):
            worker.serve(settings)
    assert board.handed_back == [
        (0, 5, "OutsideError: the base model did not load: OSError: [Errno 28] No space left on device")
    ]
    assert board.finished == []


def at_work(store: Store, base_trial: dict[str, Any]) -> Bench:
    """What a worker of one process has, without a board."""
    given: Any = SimpleNamespace(
        slot=2,
        epoch=1,
        base_trial=base_trial,
        max_attempts=3,
        keep_checkpoints=False,
        checkpoint_every_steps=None,
        checkpoint_every_seconds=None,
        stopping=None,
    )
    alone = Workers(0, 1, torch.device("cpu"))
    return Bench(
        given,
        store,
        alone,
        AssetCache(alone.device),
        lambda *_: Verdict.CONTINUE,
        lambda *_: Verdict.CONTINUE,
        lambda: None,
    )


def test_a_node_with_other_data_does_not_serve(tmp_path: Path) -> None:
    """Under the same path it has another file than the node of the driver."""
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    store.create_or_open(tree)
    config = parse_sweep(tree, "test")
    bind_data(store, preflight(config).fingerprints)
    check_data(BASE, at_work(store, tree["trial"]))
    known = store.binding.read_fingerprint(config.trial.data.model_dump(mode="json"))
    assert known is not None
    data = tmp_path / "data.csv"
    before = data.read_text()
    data.write_text(before.replace("river", "ocean"))
    other = at_work(store, tree["trial"])
    with pytest.raises(OtherDataError) as caught:
        check_data(BASE, other)
    found = other.assets.examples(config.trial).fingerprint
    told = str(caught.value)
    assert told.startswith(f"slot 2 on node {ray.util.get_node_ip_address()} does not serve: its data have the")
    assert f"fingerprint {found}, the sweep began with {known} (training data {str(data)!r})" in told
    store.write_config("a", tree["trial"])
    with pytest.raises(StoreError, match=f"the data changed since this sweep began .* was {known}, is {found}"):
        check_fingerprints(store, preflight(config).fingerprints)
    data.write_text(before)
    check_fingerprints(store, preflight(config).fingerprints)


def test_a_node_with_another_adapter_to_begin_with_does_not_serve(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    adapter = tmp_path / "theirs"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    tree["trial"]["adapter"] = {"start_from": str(adapter), "head_modules": ["classifier"]}
    trial = TrialConfig.model_validate(tree["trial"])
    store.create_or_open(tree)
    store.binding.write_contents(contents([trial]))
    check_data(BASE, at_work(store, tree["trial"]))
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    with pytest.raises(OtherDataError, match=f"does not serve: adapter {adapter} is another here than when the sweep"):
        check_data(BASE, at_work(store, tree["trial"]))
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(NodeError, match=r"has no adapter_model\.safetensors"):
        check_data(BASE, at_work(store, tree["trial"]))


def test_a_node_with_another_metric_of_one_s_own_does_not_serve(tmp_path: Path) -> None:
    store, file = Store(str(tmp_path / "store")), tmp_path / "metrics.py"
    tree = tiny.sweep_tree(tmp_path, store.uri)
    tree["trial"]["evaluation"]["metric"] = f"{file}:score"
    file.write_text("def score(answer, example): return 1")
    store.create_or_open(tree)
    store.binding.write_contents(contents([TrialConfig.model_validate(tree["trial"])]))
    check_data(BASE, at_work(store, tree["trial"]))
    file.write_text("def score(answer, example): return 0.5")
    with pytest.raises(OtherDataError, match=f"does not serve: {file} is another here than when the sweep began"):
        check_data(BASE, at_work(store, tree["trial"]))
    file.unlink()
    with pytest.raises(NodeError, match=r"evaluation\.metric: file .* does not exist"):
        check_data(BASE, at_work(store, tree["trial"]))


def test_data_that_nobody_has_loaded_are_those_of_the_first_worker_and_loaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A searched field of the data between the corners of its range, which the driver does not check."""
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    trial = parse_sweep(tree, "test").trial
    calls: list[Any] = []
    load = assets.load_splits
    monkeypatch.setattr(assets, "load_splits", lambda *given, **more: calls.append(given) or load(*given, **more))
    worked = at_work(store, tree["trial"])
    check_data(BASE, worked)
    check_data(BASE, worked)
    loaded = worked.assets.get(trial)
    assert store.binding.read_fingerprint(trial.data.model_dump(mode="json")) == loaded.data_facts["fingerprint"]
    assert len(calls) == 1


def test_a_file_that_is_written_anew_while_a_slot_works_is_looked_at_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    worked = at_work(store, tiny.sweep_tree(tmp_path, store.uri)["trial"])
    check_data(BASE, worked)
    data = tmp_path / "data.csv"
    data.write_text(data.read_text().replace("river", "ocean"))
    with pytest.raises(OtherDataError, match="does not serve: its data have the"):
        check_data(BASE, worked)


def test_data_that_are_gone_are_the_nodes(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    worked = at_work(store, tiny.sweep_tree(tmp_path, store.uri)["trial"])
    (tmp_path / "data.csv").unlink()
    told = r"^data '.*data.csv' could not be loaded on node \S+: LocationError: '.*' does not exist"
    with pytest.raises(NodeError, match=told):
        check_data(BASE, worked)
    with pytest.raises(NodeError, match=r"^base model and data of the sweep could not be loaded on node \S+: Location"):
        execute_work(BASE, worked)


def test_data_that_a_library_fails_at_are_a_failed_record_and_the_slot_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an error that is none of this package. What loads a moment later, unlooked at, is not trained on."""
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    trial = parse_sweep(tree, "test").trial
    key = trial_key(trial)
    store.write_config(key, trial.model_dump(mode="json"))
    work: Work = {"kind": "trial", "key": key, "candidate": ""}
    load = assets.load_splits
    calls: list[Any] = []

    def once(*given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise ZeroDivisionError("no such puzzle")
        return load(*given, **more)

    monkeypatch.setattr(assets, "load_splits", once)
    worked = at_work(store, tree["trial"])
    check_data(work, worked)
    assert execute_work(work, worked) == "failed"
    record = store.read_record(key)
    assert record is not None
    assert record.failure is not None
    assert (record.failure.type, record.failure.message, record.attempts) == ("ZeroDivisionError", "no such puzzle", 1)
    check_data(BASE, worked)
    assert execute_work(BASE, worked) == "completed"


def test_every_rank_is_compared_with_what_rank_0_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data that nobody has loaded before: the rank hears it from rank 0, and reads and writes nothing."""
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    second = replace(at_work(store, tree["trial"]), workers=Workers(1, 2, torch.device("cpu")))
    found = second.assets.examples(parse_sweep(tree, "test").trial).fingerprint
    monkeypatch.setattr(worker, "broadcast_from_rank_zero", lambda mine: found)
    check_data(BASE, second)
    assert not store.storage.exists("data")
    monkeypatch.setattr(worker, "broadcast_from_rank_zero", lambda mine: "other")
    with pytest.raises(OtherDataError, match=f"fingerprint {found}, the sweep began with other"):
        check_data(BASE, second)


def test_a_slot_that_writes_at_the_same_moment_as_another_is_compared_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    data = parse_sweep(tree, "test").trial.data.model_dump(mode="json")
    monkeypatch.setattr(worker.time, "sleep", lambda _: store.binding.write_fingerprint(data, "other"))
    with pytest.raises(OtherDataError, match="the sweep began with other"):
        check_data(BASE, at_work(store, tree["trial"]))


def test_data_whose_commit_is_known_later_are_compared_with_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a section is that of the sweep's file: by the driver and by a worker, with a commit or without."""
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    tree["trial"]["data"]["train"] |= {"name": "some/data"}
    rows = {None: (tmp_path / "data.csv").read_text()}
    rows["a" * 40] = rows[None].replace("river", "ocean")

    def from_hub(name: str, subset: str | None, split: str | None, revision: str | None) -> Any:
        path = tmp_path / "hub.csv"
        path.write_text(rows[revision])
        return load_local(path, str(path), subset, split, None, ["text", "label"])

    monkeypatch.setattr(sources, "load_from_hub", from_hub)
    config = parse_sweep(tree, "test")
    bind_data(store, preflight(config, {"dataset some/data": None}).fingerprints)
    store.write_config("k", tree["trial"])  # something was asked
    pinned = {"dataset some/data": "a" * 40}
    with pytest.raises(StoreError, match=r"the data changed since this sweep began \(training data 'some/data'\)"):
        check_fingerprints(store, preflight(config, pinned).fingerprints)
    store.binding.write_commits(pinned)
    with pytest.raises(OtherDataError, match="training data 'some/data'"):
        check_data(BASE, at_work(store, tree["trial"]))
    store.binding.write_commits({"dataset some/data": None})
    check_data(BASE, at_work(store, tree["trial"]))


def test_a_name_that_had_no_commit_when_the_sweep_began_gets_none_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that a baseline brings later is looked up then."""
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    tree["trial"]["data"]["train"] |= {"name": "some/data"}
    told: dict[str, str | None] = {"dataset some/data": None, "dataset new/data": "b" * 40}
    monkeypatch.setattr(bind, "find_commits", lambda names: {name.text: told[name.text] for name in names})
    config = parse_sweep(tree, "test")
    store.binding.write_commits(commits_of(config, store))
    told["dataset some/data"] = "a" * 40
    assert commits_of(config, store) == {"dataset some/data": "a" * 40}  # nothing was asked yet
    store.write_config("k", tree["trial"])
    assert commits_of(config, store) == {"dataset some/data": None}
    later = parse_sweep(tree | {"baselines": [{"data.train.name": "new/data"}]}, "test")
    assert commits_of(later, store) == {"dataset some/data": None, "dataset new/data": "b" * 40}


def test_a_trial_trains_on_the_commit_that_the_sweep_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch has moved since, to files that do not load. Its key is that of the configuration as it was written."""
    store = Store(str(tmp_path / "store"))
    tree = tiny.sweep_tree(tmp_path, store.uri)
    old, new = "a" * 40, "b" * 40
    repo = tmp_path / "cache" / "models--some--tiny"
    shutil.copytree(tmp_path / "model", repo / "snapshots" / old)
    (repo / "snapshots" / new).mkdir()
    (repo / "snapshots" / new / "config.json").write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(old)
    for module, name in ((constants, "HF_HUB_CACHE"), (hub, "TRANSFORMERS_CACHE")):
        monkeypatch.setattr(module, name, str(tmp_path / "cache"), raising=False)
    tree["trial"]["model"]["name"] = "some/tiny"
    config = parse_sweep(tree, "test")
    store.create_or_open(tree)
    commits = commits_of(config, store)
    assert commits == {"model some/tiny": old}
    store.binding.write_commits(commits)
    (repo / "refs" / "main").write_text(new)
    key = trial_key(config.trial)
    store.write_config(key, config.trial.model_dump(mode="json"))
    assert commits_of(config, store) == commits  # something was asked: a later run takes what is on record
    assert execute_work({"kind": "trial", "key": key, "candidate": ""}, at_work(store, tree["trial"])) == "completed"
    record = store.read_record(key)
    assert record is not None
    assert record.environment.model["revision"] == old
    assert record.config["model"]["revision"] == old  # type: ignore[call-overload, index]
    adapter = json.loads((Path(store.uri) / "trials" / key / "adapters/000012/adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("some/tiny", old)
    assert store.read_config(key)["model"]["revision"] is None
