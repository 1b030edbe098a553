"""Looks at trials in the store, and that one goes on."""

import re
from pathlib import Path

import pytest

from prunedlora.results.record import Beaten, Decision, Figure, GoesOn, Look, RecordError, StoredLook
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from tests.inventions import invented_record, sweep_tree


def look(step: int, *, stops: bool = False) -> Look:
    decision = Decision(stops=stops, beaten_by=(Beaten(size=2e6, by="b"),), spared="4 to 8", peers={"b": 0.5})
    return Look(step=step, share=step / 1000, loss=Figure(value=0.1, num_examples=2), decision=decision)


def test_looks_come_back_in_order_and_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    stored = {n: StoredLook(look=look(n), loss_sums=(0.1, 0.3), num_targets=(1, 2)) for n in (900, 20)}
    for each in stored.values():
        store.write_look("a", each)
    assert store.looks("a") == [stored[20], stored[900]]
    assert (store.read_look("a", 900), store.read_look("a", 21), store.looks("b")) == (stored[900], None, [])
    record = invented_record("a", sweep_tree(tmp_path)["trial"]).model_copy(update={"looks": (look(20), look(21))})
    assert store.read_looks_of([record]) == {"a": [stored[20]]}
    path = tmp_path / "trials/a/looks/00000020.json"
    path.write_text(path.read_text().replace('"share": 0.02', '"share": 1.5'))
    with pytest.raises(RecordError, match=rf"{re.escape(str(path))}: not a valid StoredLook: look.share"):
        store.looks("a")


def test_a_record_is_due_to_go_on_until_it_is_another(tmp_path: Path) -> None:
    store, record = Store(str(tmp_path)), invented_record("a", sweep_tree(tmp_path)["trial"], "stopped")
    assert store.read_goes_on("a") is None
    goes_on = GoesOn(step=20, decision=Decision(stops=False))
    store.write_goes_on("a", goes_on)
    assert store.read_goes_on("a") == goes_on
    stopped = record.model_copy(update={"looks": (look(20, stops=True),)})
    assert goes_on.is_due(stopped)
    assert not goes_on.is_due(stopped.model_copy(update={"status": "completed"}))
    assert not goes_on.is_due(stopped.model_copy(update={"looks": (*stopped.looks, look(30, stops=True))}))
    assert not goes_on.is_due(record)  # stopped by another rule


def test_configurations_are_read_together_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_config("a", {"seed": 1})
    store.write_config("b", {"seed": 2})
    assert store.read_configs(["b", "a"]) == [{"seed": 2}, {"seed": 1}]
    with pytest.raises(StoreError, match=r"trials/c/config.json does not exist: trial c was never queued"):
        store.read_configs(["a", "c"])
