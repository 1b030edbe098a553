"""What a slot keeps from trial to trial, and what a record says of its data."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.fields import with_values
from prunedlora.config.load import load_sweep, parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.trial import assets
from prunedlora.trial.assets import AssetCache, load_task
from tests.tiny import decoder_tree, sweep_tree


def test_data_that_changed_are_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the key of the new file would stand over what was learned from the old one."""
    loads: list[TrialConfig] = []
    monkeypatch.setattr(assets, "load_examples_of", lambda trial: loads.append(trial) or load_examples_of(trial))
    path = tmp_path / "train.csv"
    train: dict[str, Any] = {"name": str(path), "prompt": "{text}", "target": "{label}"}
    fields = load_sweep(Path("search_spaces/quickstart.yaml")).trial.model_dump()
    trial = TrialConfig.model_validate(with_values(fields, {"data.train": train}))
    cache = AssetCache(torch.device("cpu"))
    for text, number in (("text,label\nx,1\n", 1), ("text,label\nz,1\n", 2)):
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        assert cache.get(trial) is cache.get(trial)
        assert len(loads) == number


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


def test_assets_are_those_of_the_stop_texts(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store", metric="exact_match", max_new_tokens=4)
    cache = AssetCache(torch.device("cpu"))
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    free = cache.get(trial_of(tree))
    assert cache.get(trial_of(tree)) is free
    assert cache.get(trial_of(tree, evaluation__stop=["?"])) is not free


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
