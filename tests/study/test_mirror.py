"""The mirror of a study: what it shows, that it mends itself, and that no ask hangs on it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.ask import Ask
from prunedlora.results.store import Store
from prunedlora.study import mirror as mirror_module
from prunedlora.study import mirror_storage
from prunedlora.study.asker import Asker
from prunedlora.study.mirror import Mirror, address_of, check_mirror
from prunedlora.study.mirror_storage import MirrorError, opened
from tests.inventions import invented_record, next_ask

Make = Callable[..., SweepConfig]
BASELINE = [{"adapter.method": "lora", "pruning": None, "label": "plain LoRA"}]


@pytest.fixture(autouse=True)
def _looks_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "LOOK_SECONDS", 0.0)


class Sweep:
    """Driven by hand: trials end as soon as two are out."""

    def __init__(self, config: SweepConfig) -> None:
        self.config, self.store = config, Store(config.storage)
        self.store.create_or_open(config.model_dump(mode="json"))
        self.asker = Asker(config, self.store)
        self.out: list[Ask] = []

    def mirror(self, address: str | None = None) -> Mirror:
        address = address or address_of(self.config, self.store)
        assert address is not None
        return Mirror(self.config, self.store, address, lambda: (self.asker.asks, self.asker.records))

    def event(self) -> bool:
        """Hands out a trial, or ends one; False when all have ended."""
        if len(self.out) < 2 and (ask := next_ask(self.asker)) is not None:
            self.out.append(ask)
        elif self.out:
            ask = self.out.pop(0)
            fate = {0: "failed", 1: "stopped"}.get(int(ask.key, 16) % 4, "completed")
            self.store.write_record(invented_record(ask.key, self.store.read_config(ask.key), fate), driver_epoch=0)
            self.asker.end(ask.number)
        else:
            self.asker.close()
            return False
        return True

    def studies(self, address: str | None = None) -> tuple[optuna.Study, optuna.Study]:
        storage: Any = address or address_of(self.config, self.store)
        if storage.startswith("journal:"):
            storage = JournalStorage(JournalFileBackend(storage.removeprefix("journal:")))
        trials, candidates = (
            optuna.load_study(study_name=name, storage=storage) for name in ("small", "small candidates")
        )
        return trials, candidates

    def shown(self, address: str | None = None) -> list[Any]:
        return [
            [(t.state.name, t.values, t.params, t.user_attrs) for t in study.get_trials()]
            for study in self.studies(address)
        ]


def test_trials_are_seen_from_the_moment_they_are_asked(make_sweep: Make) -> None:
    sweep = Sweep(make_sweep(num_trials=4, baselines=BASELINE))
    mirror = sweep.mirror()
    sweep.event()
    sweep.event()
    mirror.update()
    trials, candidates = sweep.studies()
    baseline, first = trials.get_trials()
    assert (baseline.state.name, baseline.params, baseline.user_attrs["kind"]) == ("RUNNING", {}, "baseline")
    assert (first.state.name, first.user_attrs["key"]) == ("RUNNING", sweep.asker.asks[1].key)
    assert first.params == sweep.asker.asks[1].params
    assert candidates.get_trials() == []
    while sweep.event():
        pass
    mirror.update()
    trials, candidates = sweep.studies()
    assert trials.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    assert trials.metric_names == ["accuracy", "adapter_params"]
    records = {record.key: record for record in sweep.store.records()}
    told = {"completed": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    for trial, ask in zip(trials.get_trials(), sweep.asker.asks, strict=True):
        record = records[trial.user_attrs["key"]]
        assert (trial.user_attrs["name"], trial.user_attrs["key"]) == (f"ask {ask.number}", ask.key)
        assert trial.state.name == told[record.status]
        assert trial.user_attrs["status"] == record.status
        assert trial.params == ask.params
        assert trial.intermediate_values == {}
        if record.status == "completed":
            last = record.candidates[-1]
            assert trial.values == [last.figures["accuracy"].value, last.adapter_params]
            assert trial.user_attrs["candidates"][last.name]["sizes"]["served_slot"] == 16
    every = {
        f"{r.key}@{c.name}": (c.figures["accuracy"].value, c.adapter_params)
        for r in records.values()
        for c in r.candidates
    }
    assert {trial.user_attrs["name"]: tuple(trial.values) for trial in candidates.get_trials()} == every
    front = {
        name
        for name, (quality, size) in every.items()
        if not any(q >= quality and s <= size and (q, s) != (quality, size) for q, s in every.values())
    }
    assert {trial.user_attrs["name"] for trial in candidates.best_trials} == front


def test_what_stopped_trials_left_is_shown_where_the_search_is_told_of_it(make_sweep: Make) -> None:
    sweep = Sweep(make_sweep(num_trials=6, telling="candidates"))
    mirror = sweep.mirror()
    while sweep.event():
        mirror.update()
    mirror.update()
    trials, _ = sweep.studies()
    records = {record.key: record for record in sweep.store.records()}
    assert {record.status for record in records.values()} >= {"stopped", "completed"}
    for trial in trials.get_trials():
        record = records[trial.user_attrs["key"]]
        assert trial.user_attrs["status"] == record.status
        assert trial.state.name == ("FAIL" if record.status == "failed" else "COMPLETE")
        assert (trial.values is None) == (record.status == "failed")


@pytest.mark.parametrize("fate", ["off", "on", "broken", "deleted", "emptied"])
def test_whatever_becomes_of_it_the_asks_are_the_same(
    make_sweep: Make, tmp_path: Path, fate: str, asks_without: list[Ask]
) -> None:
    sweep = Sweep(make_sweep(num_trials=6, baselines=BASELINE))
    file = tmp_path / "study"
    address = {"broken": f"journal:{tmp_path}/no/file", "on": f"sqlite:///{file}"}.get(fate, f"journal:{file}")
    mirror, events = sweep.mirror(address), 0
    while sweep.event():
        events += 1
        if fate == "deleted" and events == 9:
            file.unlink()
        if fate == "emptied" and events == 9:
            for study in sweep.studies(address):
                study._storage.delete_study(study._study_id)
        if fate != "off" and events % 4 == 0:
            try:
                mirror.update()
            except MirrorError:
                assert fate == "broken"
    assert sweep.store.asks() == asks_without
    if fate not in ("off", "broken"):
        mirror.update()
        whole = f"journal:{tmp_path}/whole"
        sweep.mirror(whole).update()
        assert sweep.shown(address) == sweep.shown(whole)


@pytest.fixture(scope="module")
def asks_without(tmp_path_factory: pytest.TempPathFactory) -> list[Ask]:
    from prunedlora.config.load import parse_sweep
    from tests.inventions import sweep_tree

    folder = tmp_path_factory.mktemp("without") / "store"
    sweep = Sweep(parse_sweep(sweep_tree(folder, num_trials=6, baselines=BASELINE), "test"))
    while sweep.event():
        pass
    return sweep.store.asks()


def test_what_others_spoiled_is_made_anew_and_what_they_added_stays(make_sweep: Make, tmp_path: Path) -> None:
    sweep = Sweep(make_sweep(num_trials=3, mirror=f"journal:{tmp_path}/x"))
    while sweep.event():
        pass
    sweep.mirror().update()
    was = sweep.shown()
    study, _ = sweep.studies()
    study.set_user_attr("note", "mine")
    sweep.mirror().update()
    assert sweep.studies()[0].user_attrs["note"] == "mine"
    study.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    sweep.mirror().update()
    assert sweep.shown() == was
    assert "note" not in sweep.studies()[0].user_attrs


def test_a_trial_that_is_trained_again_runs_again(make_sweep: Make, tmp_path: Path) -> None:
    sweep = Sweep(make_sweep(num_trials=12, mirror=f"journal:{tmp_path}/x"))
    while sweep.event():
        pass
    sweep.mirror().update()
    failed = [record.key for record in sweep.store.records() if record.status == "failed"]
    assert failed
    sweep.asker = Asker(sweep.config, sweep.store, retry_failed=True)
    sweep.mirror().update()
    trials, _ = sweep.studies()
    assert [t.user_attrs["key"] for t in trials.get_trials() if t.state.name == "RUNNING"] == [
        ask.key for ask in sweep.asker.asks if ask.key in failed
    ]


def test_a_journal_does_as_well(make_sweep: Make, tmp_path: Path) -> None:
    sweep = Sweep(make_sweep(num_trials=2, mirror=f"journal:{tmp_path}/study.log"))
    check_mirror(sweep.config, sweep.store)
    while sweep.event():
        sweep.mirror().update()
    check_mirror(sweep.config, sweep.store)
    assert len(sweep.studies()[0].get_trials()) == 2


def test_where_nothing_changed_nothing_is_looked_at(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "LOOK_SECONDS", 60.0)
    sweep = Sweep(make_sweep(num_trials=2))
    while sweep.event():
        pass
    asks, records = sweep.asker.asks[:1], sweep.asker.records
    mirror = Mirror(sweep.config, sweep.store, f"journal:{tmp_path}/x.log", lambda: (asks, records))
    mirror.update()
    (tmp_path / "x.log").unlink()
    mirror.update()
    assert not (tmp_path / "x.log").exists()
    asks.append(sweep.asker.asks[1])
    mirror.update()
    assert len(sweep.studies(f"journal:{tmp_path}/x.log")[0].get_trials()) == 2


def test_where_it_lies(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert address_of(make_sweep(), store) == f"sqlite:///{tmp_path}/store/optuna.db"
    assert address_of(make_sweep(), Store("memory://store")) is None
    assert address_of(make_sweep(mirror=None), store) is None
    assert address_of(make_sweep(mirror="journal:x", num_trials=0, space={}, baselines=BASELINE), store) is None


def test_an_address_that_cannot_be_is_an_error_before_the_start(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "store"))

    def error_of(address: str) -> str:
        with pytest.raises(MirrorError) as caught:
            check_mirror(make_sweep(mirror=address), store)
        return str(caught.value)

    assert "there is no folder" in error_of(f"sqlite:///{tmp_path}/none/x.db")
    assert "there is no folder" in error_of(f"journal:{tmp_path}/none/x.log")
    assert "is a folder; give the address of a file" in error_of(f"journal:{tmp_path}")
    (tmp_path / "text.db").write_text("no database, but a text that is longer than SQLite's header is " * 3)
    assert "file is not a database" in error_of(f"sqlite:///{tmp_path}/text.db")
    text = error_of("postgresql+nowhere_to_be_found://me@127.0.0.1:1/studies")
    assert "cannot be reached" in text
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "may not be written (by user" in error_of(f"sqlite:///{tmp_path}/x.db")
    assert list(tmp_path.iterdir()) == [tmp_path / "text.db"]


def test_a_missing_package_is_named_as_pip_knows_it(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg2", None)
    with pytest.raises(MirrorError, match="it takes the package psycopg2: pip install 'psycopg2-binary'"):
        check_mirror(make_sweep(mirror="postgresql+psycopg2://me@127.0.0.1:1/x"), Store(str(tmp_path / "store")))


def test_what_a_database_says_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEDLORA_MIRROR_PASSWORD", "hun/ter2")

    def refused(address: str) -> None:
        url = mirror_storage._url(address).render_as_string(hide_password=False)
        raise ValueError(f"cannot open {url} with hun/ter2")

    monkeypatch.setattr(mirror_storage, "_open", refused)
    with pytest.raises(MirrorError) as caught, opened("postgresql+psycopg://me@127.0.0.1:1/x?sslmode=off"):
        pass
    said = "ValueError: cannot open postgresql+psycopg://me:***@127.0.0.1:1/x?sslmode=*** with ***"
    assert str(caught.value) == f"mirror postgresql+psycopg://me@127.0.0.1:1/x?…: {said}"


@pytest.mark.parametrize(("owner", "whose"), [("/other/store", "the mirror of /other/store"), (None, "no mirror of")])
def test_anothers_study_is_left_alone(make_sweep: Make, tmp_path: Path, owner: str | None, whose: str) -> None:
    address = f"sqlite:///{tmp_path}/shared.db"
    study = optuna.create_study(study_name="small", storage=address)
    if owner is not None:
        study.set_user_attr("store", owner)
    store = Store(str(tmp_path / "store"))
    with pytest.raises(MirrorError, match=whose):
        check_mirror(make_sweep(mirror=address), store)
    check_mirror(make_sweep(mirror=address, name="another"), store)
