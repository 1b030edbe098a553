"""prunedlora show-data: what a sweep would train on, without training."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from prunedlora.cli import app
from prunedlora.training import model as model_module
from prunedlora.trial import base_cache
from tests.tiny import decoder_tree, sweep_tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def show(tree: dict[str, Any], folder: Path, *arguments: str) -> Result:
    (folder / "sweep.yaml").write_text(yaml.safe_dump(tree))
    return CliRunner().invoke(app, ["show-data", str(folder / "sweep.yaml"), *arguments])


def test_generation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks, figures, padding; no weights are read and nothing is written beside the sweep."""
    monkeypatch.setattr(base_cache, "load_base", None)
    monkeypatch.setattr(model_module, "load_base", None)
    tree = decoder_tree(folder, folder / "store", max_new_tokens=4)
    tree["trial"]["evaluation"]["metric"] = "exact_match"
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    result = show(tree, folder, "-n", "1", "--split", "train", "--split", "test")
    assert result.exit_code == 0, result.output
    assert "── train 1 of 48" in result.stdout
    assert result.stdout.count("⟨<end>⟩⟧") == 2
    train, test = result.stdout.split("── test 1 of 8")
    assert ":·⟦" in train
    assert "generated" not in train
    assert "An answer is generated from: the text before the first that is trained\nand compared with:\n" in test
    assert "Limit of length: 128 tokens (the model's positions); prompts leave 4 of them to an answer" in test
    assert "Source of test: cut from train" in test
    assert "in training, 8 examples a step in passes of at most 8 examples (counted over 12 steps)" in test
    assert not (folder / "store").exists()


def test_data_are_data(folder: Path) -> None:
    """Escape sequences, markup and marks in texts and labels are shown, and nothing is obeyed."""
    rows = [{"q": f"[bold]\x0b {i} :tada:", "a": f"yes[/]{i}" if i % 2 else "<end> no"} for i in range(40)]
    (folder / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = decoder_tree(folder, folder / "store")
    tree["trial"]["data"]["train"] = {"name": str(folder / "odd.jsonl"), "prompt": "{q}: ", "target": "{a}"}
    tree["trial"]["training"]["micro_batch_tokens"] = 100
    result = show(tree, folder, "-n", "9")
    assert result.exit_code == 0, result.output
    assert "\x0b" not in result.stdout
    assert "[bold]\\x0b " in result.stdout
    assert "⟦<end> no⟨<end>⟩⟧" in result.stdout
    assert "passes of at most 100 tokens" in result.stdout


def test_classes_json_and_who_has_other_data(folder: Path) -> None:
    tree = sweep_tree(folder, folder / "store")
    tree["space"]["data.max_length"] = {"choice": [6, 8]}
    tree["baselines"] = [{"adapter.method": "lora", "pruning": None, "data.max_length": 6, "label": "short"}]
    result = show(tree, folder, "--json", "--split", "validation", "-n", "2")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["splits"]["train"]["num_examples"] == 80
    assert found["splits"]["train"]["trained"] is None
    assert sum(found["labels"]["back"].values()) + sum(found["labels"]["front"].values()) == 120
    assert list(found["examples"]) == ["validation"]
    assert [one["label"] in ("front", "back") for one in found["examples"]["validation"]] == [True, True]
    assert found["examples"]["validation"][0]["runs"][0]["text"].startswith("[CLS] ")
    assert found["other_data"] == [
        "baseline short (--baseline short): data.max_length=6",
        "space: data.max_length from 6, 8 (--set trial.data.max_length=6)",
    ]
    shown = show(tree, folder, "-n", "0", "--baseline", "short").stdout
    assert "Limit of length: 6 tokens (data.max_length)" in shown
    assert "Other data: trial: data.max_length=None" in shown
    assert "over the limit, lost tokens" in shown
    assert "Trained:" not in shown
    wrong = show(tree, folder, "--baseline", "long")
    assert (wrong.exit_code, wrong.stderr) == (2, "error: no baseline is called 'long'; there are: 'short'\n")


def test_many_classes_are_folded(folder: Path) -> None:
    lines = [f"word {i},\x1b[31m[b]class{i % 25}" for i in range(250)]
    (folder / "many.csv").write_text("\n".join(["text,label", *lines, ""]))
    tree = sweep_tree(folder, folder / "store")
    tree["trial"]["data"]["train"]["name"] = str(folder / "many.csv")
    tree["trial"]["data"] |= {"num_validation": 50, "num_test": 50, "stratify": True}
    result = show(tree, folder, "-n", "1")
    assert result.exit_code == 0, result.output
    shown = result.stdout
    assert shown.count("\\x1b[31m[b]class") == 20 + 1
    assert "\x1b" not in shown
    assert "… 5 more" in shown


def test_bad_data_end_with_status_2(folder: Path) -> None:
    tree = decoder_tree(folder, folder / "store")
    tree["trial"]["data"]["train"]["prompt"] = "{nothing}"
    result = show(tree, folder)
    assert result.exit_code == 2
    assert "nothing" in result.stderr
    assert "questions.json" in result.stderr
    assert show(tree, folder, "--set", "trial.dato=1").exit_code == 2
