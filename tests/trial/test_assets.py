"""What a slot keeps from trial to trial, and what a record says of its data."""

import gc
import os
import weakref
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.trial import assets, base_cache
from prunedlora.trial.assemble import num_steps
from prunedlora.trial.assets import AssetCache, load_task
from tests.tiny import decoder_tree, make_data, sweep_tree


def test_data_that_changed_are_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the key of the new file would stand over what was learned from the old one."""
    loads: list[TrialConfig] = []
    load = assets.load_examples_of
    monkeypatch.setattr(assets, "load_examples_of", lambda trial: loads.append(trial) or load(trial))
    trial = trial_of(sweep_tree(tmp_path, tmp_path / "store"))
    data, cache = tmp_path / "data.csv", AssetCache(torch.device("cpu"))
    first = cache.get(trial)
    for number in (1, 2):
        os.utime(data, ns=(1, 1))
        assert cache.get(trial) is cache.get(trial)
        assert len(loads) == number
        data.write_text(data.read_text().replace("river", "cloud"))
    assert [f.input_ids for f in cache.get(trial).train] != [f.input_ids for f in first.train]


def test_a_space_over_the_length_loads_the_base_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only data or task depend on leaves the model; features are those of each configuration."""
    loads = counted_loads(monkeypatch)
    tree, cache = sweep_tree(tmp_path, tmp_path / "store"), AssetCache(torch.device("cpu"))
    trials = [trial_of(tree, data__max_length=length) for length in (4, 5, 6, 7, 8, 9, 10, 11, 4, 11)]
    trials += [
        trial_of(tree, model__gradient_checkpointing=True),
        trial_of(tree, evaluation__metric="loss"),
        trial_of(tree, data__num_test=25),
        trial_of(tree),
    ]
    for trial in trials:
        found = cache.get(trial)
        splits, task = load_task(trial)
        for name in ("train", "validation", "test"):
            expected = task.encode(getattr(splits, name))
            assert [(f.input_ids, f.targets) for f in getattr(found, name)] == [
                (f.input_ids, f.targets) for f in expected
            ]
        assert found.data_facts["num_truncated"]["train"] == sum(f.shortened > 0 for f in task.encode(splits.train))
        assert found.data_facts["fingerprint"] == splits.fingerprint
        assert found.task.metrics == task.metrics
    assert len(loads) == 1


def test_what_the_weights_depend_on_loads_another_model_and_lets_go_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may not fit on a device."""
    tree, cache = sweep_tree(tmp_path, tmp_path / "store"), AssetCache(torch.device("cpu"))
    more = tmp_path / "three.csv"
    more.write_text((tmp_path / "data.csv").read_text() + "".join(f"word {n},third\n" for n in range(30)))
    loads = counted_loads(monkeypatch)
    gone: list[bool] = []
    changes: list[dict[str, Any]] = [
        {"model__dtype": "bfloat16"},
        {"model__config_overrides": {"hidden_dropout_prob": 0.1}},
        {"data__train__name": str(more)},  # a class more
    ]
    for number, values in enumerate([{}, *changes]):
        model = cache.get(trial_of(tree, **values)).base.model
        assert len(loads) == number + 1
        last = weakref.ref(model)
        del model
        load = loads.before
        loads.before = lambda last=last, load=load: gone.append(last() is None)
    assert gone == [True] * len(changes)
    assert cache.get(trial_of(tree, **changes[-1])).task.labels == ("back", "front", "third")


def test_few_data_are_kept_and_those_of_another_model_are_not_taken_for_its_own(tmp_path: Path) -> None:
    tree, cache = sweep_tree(tmp_path, tmp_path / "store"), AssetCache(torch.device("cpu"))
    first = cache.get(trial_of(tree, data__max_length=8))
    for length in range(9, 9 + assets.MOST_DATA):
        cache.get(trial_of(tree, data__max_length=length))
    assert len(cache._kept) == assets.MOST_DATA
    again = cache.get(trial_of(tree, data__max_length=8))
    assert again.train is not first.train
    assert list(again.train) == list(first.train)
    limited = trial_of(tree, model__config_overrides={"max_position_embeddings": 5})
    with pytest.raises(RuntimeError, match="mismatch"):  # the checkpoint has more positions; the data were read before
        cache.get(limited)
    assert max(len(f.input_ids) for f in cache._kept[-1].data.features["train"]) == 5


def test_a_model_that_an_adapter_is_left_on_goes_and_data_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = counted_loads(monkeypatch)
    trial, cache = trial_of(sweep_tree(tmp_path, tmp_path / "store")), AssetCache(torch.device("cpu"))
    first = cache.get(trial)
    cache.clear_if_adapted()
    assert cache.get(trial).base is first.base
    next(iter(first.base.model.modules())).lora_A = None
    cache.clear_if_adapted()
    second = cache.get(trial)
    assert second.base.model is not first.base.model
    assert second.train is first.train
    assert len(loads) == 2


def test_data_leave_nothing_for_the_garbage_collector(tmp_path: Path) -> None:
    tree, cache = sweep_tree(tmp_path, tmp_path / "store"), AssetCache(torch.device("cpu"))
    make_data(tmp_path / "data.csv", num_rows=5000)
    cache.get(trial_of(tree, data__train__num_examples=100))
    gc.collect()
    before = len(gc.get_objects())
    cache.get(trial_of(tree, data__max_length=20))
    gc.collect()
    assert len(gc.get_objects()) - before < 1000


class Loads(list[Any]):
    """Base models that were loaded."""

    before = staticmethod(lambda: None)


def counted_loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    loads, load = Loads(), base_cache.load_base

    def counted(*given: Any) -> Any:
        loads.before()
        loads.append(given)
        return load(*given)

    monkeypatch.setattr(base_cache, "load_base", counted)
    return loads


def trial_of(tree: dict[str, Any], **values: Any) -> TrialConfig:
    return trial_with(
        parse_sweep(tree, "test").trial, {path.replace("__", "."): value for path, value in values.items()}
    )


def test_the_record_counts_groups_and_what_they_cost(tmp_path: Path) -> None:
    rows = [f"word {n} {v},{['front', 'back'][n % 2]},author {n}" for n in range(60) for v in range(3)]
    data = tmp_path / "grouped.csv"
    data.write_text("\n".join(["text,label,author", *rows, ""]))
    tree = sweep_tree(tmp_path, tmp_path / "store")
    trial = trial_of(tree, data__train__name=str(data), data__train__group="{author}")
    facts = AssetCache(torch.device("cpu")).get(trial).data_facts
    assert facts["num_groups"] == {"train": 20, "validation": 20, "test": 20}
    assert facts["num_examples"] == {"train": 60, "validation": 20, "test": 20}
    assert facts["num_siblings_removed"] == {"train": 80, "validation": 0, "test": 0}


def test_a_pass_is_of_weighted_examples(tmp_path: Path) -> None:
    """Two sources of formats of their own: the record says what each gave, and a pass has as many steps."""
    tree = sweep_tree(tmp_path, tmp_path / "store")
    rows = [f"word {n},{['front', 'back'][n % 2]}" for n in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows[:40], ""]))
    (tmp_path / "b.tsv").write_text("\n".join(row.replace(",", "\t") for row in ["what,class", *rows[40:], ""]))
    first = {"name": str(tmp_path / "a.csv"), "prompt": "{text}", "target": "{label}", "weight": 1.5}
    other = {"name": str(tmp_path / "b.tsv"), "prompt": "{what}", "target": "{class}"}
    values = {"data__train": [first, other], "data__num_validation": 5, "data__num_test": 5}
    trial = trial_of(tree, **values, training__num_steps=None, training__num_epochs=2, training__batch_size=8)
    assets = AssetCache(torch.device("cpu")).get(trial)
    a, b = assets.data_facts["train_sources"]
    assert (a["name"], a["weight"], b["name"], b["weight"]) == (first["name"], 1.5, other["name"], 1.0)
    assert a["num_examples"] + b["num_examples"] == 50
    assert a["num_per_pass"] == round(1.5 * a["num_examples"])
    total = assets.data_facts["num_examples"]["train"]
    assert total == len(assets.train) == a["num_per_pass"] + b["num_per_pass"]
    assert num_steps(trial, len(assets.train)) == ceil(2 * total / 8)


def test_assets_are_those_of_the_stop_texts(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store", metric="exact_match", max_new_tokens=4)
    cache = AssetCache(torch.device("cpu"))
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    free = cache.get(trial_of(tree))
    assert cache.get(trial_of(tree)) is free
    assert cache.get(trial_of(tree, evaluation__stop=["?"])).task is not free.task


@pytest.mark.parametrize(
    ("stratify", "message"), [(None, "validation would have no example of 1 of 3"), (False, None), (True, None)]
)
def test_how_classes_are_cut(tmp_path: Path, stratify: bool | None, message: str | None) -> None:
    data = tmp_path / "rare.csv"
    rows = [f"word {n},{['front', 'back'][n % 2]}" for n in range(400)] + [f"rare {n},rare" for n in range(4)]
    data.write_text("\n".join(["text,label", *rows, ""]))
    source = {"name": str(data), "prompt": "{text}", "target": "{label}"}
    tree = sweep_tree(tmp_path, tmp_path / "store")
    other = tmp_path / "other.csv"
    other.write_text("text,label\nother,rare\n")
    values = {"data.train": source, "data.test": source | {"name": str(other)}, "data.num_test": None}
    trial = trial_of(tree, **values, data__num_validation=10, data__stratify=stratify)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            load_task(trial)
        return
    splits, task = load_task(trial)
    assert task.labels == ("back", "front", "rare")
    assert ("rare" in {example.target for example in splits.validation}) == bool(stratify)
