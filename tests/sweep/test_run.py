"""Sweeps on a real local Ray, with work that is only pretended."""

import io
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from prunedlora.config.identity import KEY_VERSION, contents
from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import trial_with
from prunedlora.fleet import cluster
from prunedlora.fleet.address import ClusterError
from prunedlora.fleet.capacity import CapacityError
from prunedlora.results.driver_lock import DriverLock, DriverLockedError
from prunedlora.results.record import BaseReference, Figure
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.study.mirror_storage import MirrorError
from prunedlora.sweep.bind import bind
from prunedlora.sweep.every_trial import every_trial
from prunedlora.sweep.outcome import SweepResult
from prunedlora.sweep.plan import print_plan
from prunedlora.sweep.run import run_sweep
from tests import tiny
from tests.inventions import pretend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def make(folder: Path, storage: Path, seed: int = 50, **changes: Any) -> SweepConfig:
    tree = tiny.sweep_tree(folder, storage) | {"resources": {"num_slots": 1}} | changes
    tree["trial"]["seed"] = seed
    return parse_sweep(tree, "test")


def run(config: SweepConfig, **options: Any) -> tuple[SweepResult, str]:
    text = io.StringIO()
    result = run_sweep(config, config.storage, console=Console(file=text, width=100), execute=pretend, **options)
    return result, text.getvalue()


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str, calls: dict[str, int]) -> None:
    """Of a method of Store, in this process: what the driver reads."""
    method = getattr(Store, name)

    def counted(store: Store, *inputs: Any) -> Any:
        calls[name] += 1
        return method(store, *inputs)

    monkeypatch.setattr(Store, name, counted)


def test_a_sweep_runs_survives_a_dead_worker_and_is_not_run_twice(
    folder: Path, tmp_path: Path, shared_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = {"records": 0, "asks": 0}
    for name in reads:
        count_calls(monkeypatch, name, reads)
    dying = {"optimizer.learning_rate": 0.5, "seed": 1000}
    also = {"retention": {"adapters": "front"}, "loggers": ["tensorboard"]}
    config = make(folder, tmp_path / "store", num_trials=4, baselines=[dying], **also)
    result, text = run(config, command=["prunedlora", "search", "x.yaml"])
    assert (result.ending, result.num_kept, result.num_resumed, result.num_new, result.num_failed) == (
        "all trials are done", 0, 0, 5, 0,
    )  # fmt: skip
    assert result.problems == ()
    # All of them when it begins, and once more when nothing trains any more.
    assert reads == {"records": 2, "asks": 2}
    assert 0 < result.startup_seconds < result.wall_seconds
    store = Store(config.storage)
    asks = store.asks()
    assert [ask.kind for ask in asks] == ["baseline", *["search"] * 4]
    assert [store.num_attempts(ask.key) for ask in asks] == [2, 1, 1, 1, 1]
    assert store.read_base() is not None
    exported = store.read_exported()
    assert exported is not None
    assert result.summary.recommended is not None
    assert (exported.key, exported.step) == (result.summary.recommended.key, result.summary.recommended.step)
    assert sorted(path.name for path in Path(exported.path).iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "certificate.json"
    ]  # fmt: skip
    kept = {point.key for point in result.summary.front}
    for record in store.records():
        last = record.candidates[-1]
        assert last.adapter_path is not None or record.key not in kept
        folder = tmp_path / "store/trials" / record.key / "adapters" / f"{last.step:06d}"
        assert folder.exists() == (last.adapter_path is not None)
    stats = json.loads((tmp_path / "store/sweep_stats.json").read_text())
    assert sum(slot["num_finished"] for slot in stats["slots"]) == 7
    assert not (tmp_path / "store/ray").exists()
    mirrored = optuna.load_study(study_name=config.name, storage=f"sqlite:///{tmp_path}/store/optuna.db")
    assert [trial.state.name for trial in mirrored.get_trials()] == ["COMPLETE"] * 5
    assert f"Mirror: optuna-dashboard sqlite:///{tmp_path}/store/optuna.db" in text.replace("\n", "")
    assert {path.read_text() for path in tmp_path.glob("store/tensorboard/*/whole")} == {ask.key for ask in asks}
    assert f"trial {asks[1].key} completed: accuracy " in text
    assert "5/5 done, 0 running, 0 failed, best accuracy" in text
    assert "Trials: 0 kept, 0 resumed, 5 new, 0 failed; all trials are done." in text
    assert "prunedlora search x.yaml" in (tmp_path / "store/report/report.html").read_text()

    monkeypatch.setattr(cluster, "connected", lambda: pytest.fail("nothing is left to run"))
    reads.update(records=0, asks=0)
    again, text = run(config)
    assert (again.num_kept, again.num_new, again.startup_seconds) == (5, 0, 0.0)
    assert reads == {"records": 2, "asks": 2}
    assert "Trials: 5 kept, 0 resumed, 0 new, 0 failed; all trials are done." in text
    assert [store.num_attempts(ask.key) for ask in asks] == [2, 1, 1, 1, 1]


@pytest.mark.slow
def test_two_workers_train_a_trial_together(folder: Path, tmp_path: Path, shared_ray: None) -> None:
    config = make(folder, tmp_path / "store", num_trials=1, resources={"num_workers": 2, "num_slots": 1})
    text = io.StringIO()
    result = run_sweep(config, config.storage, console=Console(file=text))
    assert (result.num_new, result.num_failed, result.problems) == (1, 0, ())
    [record] = Store(config.storage).records()
    assert record.environment.num_workers == 2
    assert result.summary.base is not None
    assert result.summary.exported is not None


@pytest.mark.slow
def test_a_sweep_whose_time_is_up_leaves_its_trials_in_flight(folder: Path, tmp_path: Path, shared_ray: None) -> None:
    config = make(folder, tmp_path / "store", num_trials=40, seed=900)
    result, text = run(config, max_seconds=1)
    assert result.ending == "the time is up"
    assert "the time is up: trials in training write a checkpoint" in text
    assert "Run the same command again to go on." in text
    store = Store(config.storage)
    later = Asker(config, store)
    assert later.num_kept == result.num_new
    assert later.num_kept + later.num_resumed == len(store.asks()) <= 2 + result.num_new


def test_a_sweep_that_cannot_fit_is_refused(folder: Path, tmp_path: Path, shared_ray: None) -> None:
    config = make(folder, tmp_path / "store", resources={"num_workers": 2, "cpus_per_worker": 99})
    with pytest.raises(CapacityError, match=r"a slot needs 198 CPUs \(2 workers × 99 CPUs\)"):
        run(config)
    assert Store(config.storage).asks() == []


def test_storage_of_another_sweep_is_refused(folder: Path, tmp_path: Path) -> None:
    config = make(folder, tmp_path / "store")
    store = Store(config.storage)
    store.create_or_open(config.model_dump(mode="json"))
    store.binding.write_key_version(KEY_VERSION)
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.5, num_examples=2)}))
    with pytest.raises(StoreError, match=r"holds another sweep: seed was 0, is 7\. Give another storage"):
        run(make(folder, tmp_path / "store", **{"seed": 50, "sampler": "tpe"}).model_copy(update={"seed": 7}))


def test_a_store_whose_keys_mean_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    """By the dry run too. One without a key version was written before there were any."""
    config = make(folder, tmp_path / "store")
    store = Store(config.storage)
    store.create_or_open(config.model_copy(update={"storage": store.uri}).model_dump(mode="json"))
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.5, num_examples=2)}))
    for version in (1, KEY_VERSION + 1):
        if version > 1:
            store.binding.write_key_version(version)
        for start in (run, lambda config: print_plan(config, config.storage, Console(file=io.StringIO()))):
            with pytest.raises(
                StoreError, match=rf"keys of version {version}, this one makes version {KEY_VERSION}, and"
            ):
                start(config)
    store.binding.write_key_version(KEY_VERSION)
    print_plan(config, config.storage, Console(file=io.StringIO()))


def test_data_that_changed_since_the_sweep_began_is_refused(folder: Path, tmp_path: Path) -> None:
    """Also data that a baseline alone names; by the dry run too. Nothing is started."""
    data, other = tmp_path / "data.csv", tmp_path / "other.csv"
    for path in (data, other):
        path.write_text((folder / "data.csv").read_text())
    config = make(folder, tmp_path / "store", baselines=[{"data.train.name": str(other)}])
    trial = trial_with(config.trial, {"data.train.name": str(data)})
    config = config.model_copy(update={"trial": trial})
    store = Store(config.storage)
    store.create_or_open(config.model_copy(update={"storage": store.uri}).model_dump(mode="json"))
    store.binding.write_key_version(KEY_VERSION)
    store.binding.write_contents(contents(every_trial(config)))
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.5, num_examples=2)}))
    print_plan(config, config.storage, Console(file=io.StringIO()))
    for path in (data, other):
        before = path.read_text()
        path.write_text(before + "alpha river,front\n")
        for start in (run, lambda config: print_plan(config, config.storage, Console(file=io.StringIO()))):
            with pytest.raises(StoreError, match=rf"{path.name} changed since this sweep began"):
                start(config)
        path.write_text(before)


def test_a_driver_that_is_refused_changes_nothing_of_the_living_ones_sweep(folder: Path, tmp_path: Path) -> None:
    """Nothing was asked yet, so that the store might still become that of any sweep."""
    config = make(folder, tmp_path / "store")
    store = Store(config.storage)
    store.create_or_open(config.model_dump(mode="json"))
    with DriverLock(store.storage):
        before = {path: path.read_text() for path in (tmp_path / "store").rglob("*.*")}
        with pytest.raises(DriverLockedError, match="is driven by process"):
            run(config.model_copy(update={"seed": 99}))
        with pytest.raises(DriverLockedError, match=r"is driven by process \d+ on .*, and a second driver is refused"):
            print_plan(config, config.storage, Console(file=io.StringIO()))
        assert store.read_sweep()["seed"] == config.seed
        assert {path: path.read_text() for path in (tmp_path / "store").rglob("*.*")} == before


def test_what_another_driver_began_meanwhile_is_found_under_the_lock(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check without the lock and the lock it came, asked something, and ended."""
    config = make(folder, tmp_path / "store")
    store = Store(config.storage)
    take = DriverLock.acquire

    def acquire(lock: DriverLock) -> int:
        store.write_sweep(config.model_dump(mode="json") | {"seed": 99})
        store.binding.write_key_version(KEY_VERSION)
        store.write_config("k", {})
        return take(lock)

    monkeypatch.setattr(DriverLock, "acquire", acquire)
    with pytest.raises(StoreError, match=f"holds another sweep: seed was 99, is {config.seed}"):
        run(config)
    assert store.read_sweep()["seed"] == 99


def test_commits_that_another_driver_bound_meanwhile_count(tmp_path: Path) -> None:
    store, sweep = Store(str(tmp_path / "store")), {"seed": 0}
    assert bind(store, sweep, {}, {"model a": "1" * 40}) == {"model a": "1" * 40}
    assert bind(store, sweep, {}, {"model a": "2" * 40}) == {"model a": "2" * 40}  # nothing was asked yet
    store.write_config("k", {})
    assert bind(store, sweep, {}, {"model a": "3" * 40, "dataset b": None}) == {"model a": "2" * 40, "dataset b": None}
    assert store.binding.read_commits() == {"model a": "2" * 40, "dataset b": None}


def test_storage_that_cannot_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/store"):
        run(make(folder, tmp_path / "file/store"))


@pytest.mark.parametrize("address", ["ray://head:10001", "nonsense"])
def test_a_ray_that_cannot_be_joined_is_told_before_data_are_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    config = make(folder, tmp_path / "store", num_trials=1)
    config = config.model_copy(update={"trial": trial_with(config.trial, {"data.train.name": "./nowhere.csv"})})
    monkeypatch.setattr("prunedlora.sweep.opening.contents", lambda _: {})
    monkeypatch.setattr("prunedlora.sweep.plan.contents", lambda _: {})
    for start in (run, lambda config: print_plan(config, config.storage, Console(file=io.StringIO()))):
        with pytest.raises(ClusterError, match=f"RAY_ADDRESS={address}"):
            start(config)
    assert not (tmp_path / "store").exists()


def test_the_plan_tells_trials_slots_and_resources_and_starts_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "connected", lambda: pytest.fail("a plan starts no Ray"))
    text = io.StringIO()
    config = make(folder, tmp_path / "store", baselines=[{"optimizer.learning_rate": 0.5}])
    print_plan(config, config.storage, Console(file=text, width=100))
    assert "Trials: 0 kept, 0 to resume, 4 new at most" in text.getvalue()
    assert "Adapter: adapts 12 of 12 linear layers (" in text.getvalue()
    assert "Slots: 1 on a Ray started on this machine, each 1 worker of 1 CPU" in text.getvalue()
    assert not (tmp_path / "store").exists()
    assert "Mirror: optuna-dashboard sqlite:///" in text.getvalue()
    with pytest.raises(MirrorError, match="there is no folder /nowhere"):
        print_plan(
            make(folder, tmp_path / "store", mirror="sqlite:////nowhere/x.db"), config.storage, Console(file=text)
        )
    too_large = make(folder, tmp_path / "store", resources={"cpus_per_worker": 9999})
    with pytest.raises(CapacityError, match="a slot needs 9999 CPUs"):
        print_plan(too_large, config.storage, Console(file=text))
