import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from prunedlora.delivery.stored_adapter import UNCHECKED, StoredAdapterError
from prunedlora.results.analysis.configurations import configurations
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.figure_text import bytes_text
from prunedlora.results.record import Figure, RecordError
from prunedlora.results.report.told import told_of
from prunedlora.results.store import Store
from prunedlora.sweep.finish import (
    drop_dominated,
    export_recommended,
    finish_recommended,
    is_recommended_left,
    missing_tests,
)
from tests.inventions import invent_adapter, invented_record, sweep_tree


def put(store: Store, key: str, tree: dict[str, Any], accuracy: float, params: int, **sizes: Any) -> None:
    """`sizes`: of the candidate, as the record has them, and `seed`: of the trial's configuration."""
    seed = {"seed": sizes.pop("seed")} if "seed" in sizes else {}  # a record without one stands for itself
    record = invented_record(key, tree["trial"] | seed)
    figure = Figure(value=accuracy, stderr=0.01, num_examples=100)
    last = record.candidates[-1].model_copy(
        update={
            "figures": {"accuracy": figure, "loss": figure},
            "adapter_params": params,
            "adapter_path": "adapters/000020",
            "served_slot_bytes": 1000,
            **sizes,
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        invent_adapter(Path(scratch))
        store.upload_folder(Path(scratch), store.trial_path(key, "adapters/000020"))
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
    """And with its card and certificate, which say what the test evaluation found and checked."""
    assert to_test(store) == ["good@20"]
    path = store.trial_path("good", "adapters/000020/test.json")
    with pytest.raises(RecordError, match=r"good/adapters/000020/test.json: the test evaluation left no figures"):
        export_recommended(store, "good", "20", told_of(summarize(store), "good@20"))
    figures = {"accuracy": {"value": 0.8, "stderr": None, "num_examples": 7}}
    store.storage.write_text(path, json.dumps({"figures": figures}))
    with pytest.raises(RecordError, match=r"good/adapters/000020/test.json: not a valid OnTest: certificate"):
        export_recommended(store, "good", "20", told_of(summarize(store), "good@20"))
    checks = {"max_logit_difference_merged": 1e-7}
    store.storage.write_text(path, json.dumps({"figures": figures, "certificate": checks}))
    exported = export_recommended(store, "good", "20", told_of(summarize(store), "good@20"))
    assert exported.test["accuracy"].value == 0.8
    folder = Path(exported.path)
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "certificate.json"
    ]  # fmt: skip
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate["candidate"] == "good@20"
    assert certificate["checks"] == {"weights_file": UNCHECKED} | checks
    card = " ".join((folder / "README.md").read_text().split())
    assert "accuracy 0.800 on the test split (7 examples" in card
    size = (folder / "adapter_model.safetensors").stat().st_size
    assert f", in a file of {bytes_text(size)}" in card
    assert certificate["file_bytes"] == size
    assert "On validation: Its sweep recommends it. It measured best itself" in card
    decision = certificate["decision"]
    assert (decision["is_recommended"], decision["within"], decision["num_compared"]) == (True, 0.01, 3)
    assert decision == told_of(summarize(store), "good@20").document
    assert to_test(store) == []
    put(store, "better", store.read_sweep(), 0.99, 100)
    assert to_test(store) == ["better@20"]


def test_the_adapter_that_it_began_with_is_tested_beside_it(store: Store) -> None:
    """Again and again where that went wrong; of the recommended one alone does the export hang."""
    tree = store.read_sweep()
    put(store, "shrunk", tree, 0.91, 5)
    record = store.read_record("shrunk")
    assert record is not None
    original = record.candidates[0].model_copy(
        update={"step": 0, "progress": 0.0, "adapter_params": 300, "adapter_path": "adapters/000000"}
    )
    config = record.config | {"adapter": {"start_from": "mine", "method": "lora"}, "pruning": None}
    record = record.model_copy(update={"config": config, "candidates": (original, *record.candidates)})
    store.write_record(record, driver_epoch=1)
    asked: list[tuple[str, str]] = []

    def test(*fails: str) -> Any:
        def measure(point: Point, what: str) -> str | None:
            asked.append((point.name, what))
            if point.name in fails:
                return "no memory"
            figures = {"accuracy": {"value": 0.7, "stderr": None, "num_examples": 7}}
            path = store.trial_path(point.key, str(point.candidate.adapter_path), "test.json")
            store.storage.write_text(path, json.dumps({"figures": figures, "certificate": {}}))
            return None

        return measure

    both = ["shrunk@20", "shrunk@0"]
    assert to_test(store) == both
    assert finish_recommended(summarize(store), test(*both)) == [
        "the recommended adapter was not tested and not exported: no memory",
        "the adapter that it began with was not tested: no memory",
    ]
    assert store.read_exported() is None
    assert finish_recommended(summarize(store), test(both[1])) == [
        "the adapter that it began with was not tested: no memory"
    ]
    exported = store.read_exported()
    assert exported is not None
    assert (exported.key, exported.original_test) == ("shrunk", None)
    assert to_test(store) == both[1:]
    assert finish_recommended(summarize(store), test()) == []
    exported = store.read_exported()
    assert exported is not None
    assert exported.original_test is not None
    assert exported.original_test["accuracy"].value == 0.7
    assert (to_test(store), is_recommended_left(summarize(store))) == ([], False)
    its, began = "the recommended adapter", "the adapter that it began with"
    assert asked == [(both[0], its), (both[1], began), (both[0], its), (both[1], began), (both[1], began)]


def test_an_adapter_that_was_damaged_since_its_test_is_not_recommended(store: Store) -> None:
    path = store.trial_path("good", "adapters/000020")
    store.storage.write_text(f"{path}/test.json", json.dumps({"figures": {}, "certificate": {}}))
    store.storage.write_text(f"{path}/adapter_model.safetensors", "other")
    with pytest.raises(StoredAdapterError, match=r"good/adapters/000020/adapter_model.safetensors is damaged"):
        export_recommended(store, "good", "20", told_of(summarize(store), "good@20"))
    assert not store.has_folder("recommended")


def to_test(store: Store) -> list[str]:
    return [point.name for point in missing_tests(summarize(store))]


def test_nothing_to_recommend_needs_no_test(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "empty"))
    store.create_or_open(sweep_tree(tmp_path / "empty"))
    assert to_test(store) == []


def test_adapters_of_dominated_candidates_go_and_their_figures_stay(store: Store) -> None:
    assert dropped(store) == 1
    bad = store.read_record("bad")
    assert bad is not None
    assert bad.candidates[-1].adapter_path is None
    assert bad.candidates[-1].figures["accuracy"].value == 0.4
    assert not store.storage.exists(store.trial_path("bad", "adapters/000020"))
    assert store.storage.exists(store.trial_path("small", "adapters/000020"))
    assert dropped(store) == 0


def dropped(store: Store) -> int:
    """How many candidates lose their adapter; what is handed on is what is in the store."""
    before = summarize(store)
    left = drop_dominated(before, epoch=1)
    assert left == store.records()
    old, new = ([c.adapter_path for r in records for c in r.candidates] for records in (before.records, left))
    return sum(path is not None and kept is None for path, kept in zip(old, new, strict=True))


def has_adapter(store: Store, key: str) -> bool:
    return store.storage.exists(store.trial_path(key, "adapters/000020/adapter_config.json"))


@pytest.mark.parametrize(("size", "value"), [("max_rank", 1), ("adapter_bytes", 3), ("served_slot", 1)])
def test_the_front_on_another_axis_of_size_stays(store: Store, size: str, value: int) -> None:
    """Far worse and with more parameters than another, but the smallest by what `--size-axis` may ask for."""
    put(store, "narrow", store.read_sweep(), 0.1, 300, **{size: value})
    assert dropped(store) == 1
    assert [has_adapter(store, key) for key in ("narrow", "good", "small", "bad")] == [True, True, True, False]
    assert summarize(store, within=0.9, size=size).recommended.key == "narrow"  # type: ignore[union-attr]


def test_what_a_recommendation_with_confidence_may_name_stays(store: Store) -> None:
    """Beaten by less than the noise, by a smaller one even: it may be the one of the two that can be proven."""
    put(store, "near", store.read_sweep(), 0.86, 110)
    put(store, "far", store.read_sweep(), 0.82, 110)
    dropped(store)
    assert [has_adapter(store, key) for key in ("near", "far", "bad")] == [True, False, False]


def test_of_a_configuration_s_seeds_each_stays_or_goes_by_itself(store: Store) -> None:
    """An adapter is shipped, not its settings; their mean is over figures, which stay."""
    tree = store.read_sweep()
    tree["trial"]["optimizer"]["learning_rate"] = 0.5
    for seed, (accuracy, params) in enumerate([(0.95, 90), (0.2, 120), (0.3, 120)]):
        put(store, f"seed{seed}", tree, accuracy, params, seed=seed)
    dropped(store)
    assert [has_adapter(store, f"seed{seed}") for seed in range(3)] == [True, False, False]
    found = decide(summarize(store))
    assert found is not None
    assert found.settings.over_seeds[0] == pytest.approx((0.95 + 0.2 + 0.3) / 3)


def test_an_adapter_without_a_file_takes_no_place_on_the_front(store: Store) -> None:
    """Every rank 0 and better than all: the others are what is recommended."""
    put(store, "empty", store.read_sweep(), 0.95, 0, max_rank=0, adapter_bytes=0, file_bytes=0, adapter_path=None)
    dropped(store)
    assert [has_adapter(store, key) for key in ("good", "small", "bad")] == [True, True, False]
    assert summarize(store, within=0.9).recommended.key == "small"  # type: ignore[union-attr]


def test_another_seed_later_does_not_stand_for_those_that_were_dropped(store: Store) -> None:
    """Sweeps go on: with the files of all, or of the nameable alone, the same adapter is recommended."""
    tree = store.read_sweep()
    tree["trial"]["optimizer"]["learning_rate"] = 0.5
    put(store, "seed0", tree, 0.5, 150, seed=0)
    assert dropped(store) == 2
    assert not has_adapter(store, "seed0")
    put(store, "seed1", tree, 0.97, 150, seed=1)
    found = decide(summarize(store), within=0.01)
    assert found is not None
    assert found.recommended.point.key == "seed1"  # the adapter is judged, not the mean of its settings
    [judged] = [c for c in configurations(summarize(store).points, store.records()) if len(c.points) == 2]
    assert judged.over_seeds[0] == pytest.approx(0.735)
    dropped(store)
    assert has_adapter(store, "seed1")
