"""What a slot keeps, and what a record says of its data."""

from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.trial.assets import AssetCache, load_task
from tests.tiny import decoder_tree, sweep_tree


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
