import json
from pathlib import Path
from typing import Any

import pytest

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import Figure, RecordError
from prunedlora.results.store import Store
from prunedlora.sweep.finish import drop_dominated, export_recommended, missing_test
from tests.inventions import invented_record, sweep_tree


def put(store: Store, key: str, tree: dict[str, Any], accuracy: float, params: int) -> None:
    record = invented_record(key, tree["trial"])
    figure = Figure(value=accuracy, stderr=0.01, num_examples=100)
    last = record.candidates[-1].model_copy(
        update={
            "figures": {"accuracy": figure, "loss": figure},
            "adapter_params": params,
            "adapter_path": "adapters/000020",
        }
    )
    store.storage.write_text(store.trial_path(key, "adapters/000020/adapter_config.json"), "{}")
    store.write_record(record.model_copy(update={"candidates": (last,)}), driver_epoch=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    tree = sweep_tree(tmp_path / "store")
    store.create_or_open(tree)
    put(store, "good", tree, 0.9, 100)
    put(store, "small", tree, 0.5, 10)
    put(store, "bad", tree, 0.4, 200)
    return store


def test_the_recommended_adapter_is_copied_with_its_test_figures(store: Store) -> None:
    work = missing_test(store)
    assert work == {"kind": "test", "key": "good", "candidate": "20"}
    with pytest.raises(RecordError, match=r"good/adapters/000020/test.json: the test evaluation left no figures"):
        export_recommended(store, work)
    figures = {"accuracy": {"value": 0.8, "stderr": None, "num_examples": 7}}
    path = store.trial_path("good", "adapters/000020/test.json")
    store.storage.write_text(path, json.dumps({"figures": figures, "certificate": {}}))
    exported = export_recommended(store, work)
    assert exported.test["accuracy"].value == 0.8
    assert [file.name for file in Path(exported.path).iterdir()] == ["adapter_config.json"]
    assert missing_test(store) is None
    put(store, "better", store.read_sweep(), 0.99, 100)
    assert missing_test(store) == {"kind": "test", "key": "better", "candidate": "20"}


def test_nothing_to_recommend_needs_no_test(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "empty"))
    store.create_or_open(sweep_tree(tmp_path / "empty"))
    assert missing_test(store) is None


def test_adapters_of_dominated_candidates_go_and_their_figures_stay(store: Store) -> None:
    assert drop_dominated(summarize(store), epoch=1) == 1
    bad = store.read_record("bad")
    assert bad is not None
    assert bad.candidates[-1].adapter_path is None
    assert bad.candidates[-1].figures["accuracy"].value == 0.4
    assert not store.storage.exists(store.trial_path("bad", "adapters/000020"))
    assert store.storage.exists(store.trial_path("small", "adapters/000020"))
    assert drop_dominated(summarize(store), epoch=1) == 0
