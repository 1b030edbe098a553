"""`prunedlora shrink` as people begin with it: on an adapter that none of our code has made, by the README's commands,
in a Python without Ray and Optuna. By hand, with PEFT alone, its figures come out again."""

import csv
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reasoning_gym
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.trial import TrialConfig
from prunedlora.sweep import here_run, run_here
from prunedlora.tasks.example import Example
from prunedlora.trial.assets import load_examples_of
from tests.product.by_hand import BLIND, CLASSES, classifier_accuracy, classifier_adapter, seeded, words
from tests.tiny import make_data, make_model, minilm_folder

Run = Callable[..., subprocess.CompletedProcess[str]]
LABELS = ["bad", "good"]
STORE = Path("runs/shrink-my_adapter")
RECOMMENDED = {"README.md", "adapter_config.json", "adapter_model.safetensors", "certificate.json", "labels.json"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, reviews, and an adapter that plain PEFT has saved."""
    home = tmp_path_factory.mktemp("home")
    make_model(home / "base")
    rows = make_data(home / "reviews.csv").read_text().replace(",front\n", ",good\n").replace(",back\n", ",bad\n")
    (home / "reviews.csv").write_text(rows)
    classifier_adapter(
        home / "base", home / "reviews.csv", LABELS, home / "my_adapter", steps=12, batch_size=60, rate=1e-2
    )
    return home


@pytest.fixture(scope="module")
def output(home: Path, run_without: Run) -> str:
    """What the README's command for a classifier printed; it left runs/shrink-my_adapter."""
    return run_without(*words(CLASSES), cwd=home).stdout


def change_by_hand(cut: PeftModel, home: Path) -> float:
    """‖ΔW − ΔW'‖ / ‖ΔW‖ over all layers, of the updates that PEFT itself adds to the weights."""
    with seeded():
        base: Any = AutoModelForSequenceClassification.from_pretrained(home / "base", num_labels=2)
        whole = PeftModel.from_pretrained(base, str(home / "my_adapter"))
    moved, all_of_it = 0.0, 0.0
    left = {name: each for name, each in cut.named_modules() if hasattr(each, "get_delta_weight")}
    for name, each in whole.named_modules():
        if hasattr(each, "get_delta_weight"):
            update = each.get_delta_weight("default").double()
            there = left[name].get_delta_weight("default").double() if name in left else torch.zeros_like(update)
            moved += float((update - there).square().sum())
            all_of_it += float(update.square().sum())
    return math.sqrt(moved / all_of_it)


def is_by_hand_as_on_record(report: dict[str, Any], base: Path, labels: list[str]) -> None:
    """The accuracies of the original and of the recommended adapter are those that plain PEFT finds on the examples
    that the adapters were compared on, and the latter's on those that it was tested on."""
    (original,), recommended = report["originals"], report["recommended"]
    splits = load_examples_of(TrialConfig.model_validate(original["config"]))
    adapters = {"original": Path(original["config"]["adapter"]["start_from"]), "recommended": Path(recommended["path"])}

    def by_hand(name: str, examples: tuple[Example, ...]) -> float:
        texts, truth = [each.prompt for each in examples], [each.target for each in examples]
        return classifier_accuracy(base, adapters[name], labels, texts, truth)

    assert original["num_examples"] == recommended["num_examples"] == len(splits.validation)
    assert original["accuracy"] == pytest.approx(by_hand("original", splits.validation), abs=1e-9)
    assert recommended["accuracy"] == pytest.approx(by_hand("recommended", splits.validation), abs=1e-9)
    assert recommended["test"]["accuracy"]["value"] == pytest.approx(by_hand("recommended", splits.test), abs=1e-9)


def report_in(store: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((store / "report" / "report.json").read_text())
    return document


def test_cut_and_judged_it_is_by_hand_what_the_report_says(
    home: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    report, recommended = report_in(STORE), STORE / "recommended"
    (original,) = report["originals"]
    assert original["accuracy"] > 0.9
    assert report["base"]["accuracy"] < 0.8
    assert original["adapter_params"] / report["recommended"]["adapter_params"] >= 2
    is_by_hand_as_on_record(report, Path("base"), LABELS)
    assert {path.name for path in recommended.iterdir()} == RECOMMENDED
    assert json.loads((recommended / "labels.json").read_text()) == {"0": "bad", "1": "good"}
    checks = json.loads((recommended / "certificate.json").read_text())["checks"]
    assert checks["max_logit_difference_merged"] < 1e-4
    assert "It was shrunk from the adapter `my_adapter`" in " ".join((recommended / "README.md").read_text().split())
    said = " ".join(output.split())
    assert "smaller than the adapter that it began with (my_adapter, accuracy" in said
    assert "Trials: 0 kept, 0 resumed, 1 new, 0 failed; all trials are done." in said


def test_the_same_command_again_measures_nothing(home: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for module, name in ((here_run, "execute_trial"), (run_here, "measure_base"), (here_run, "measure_test")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("nothing is left"))
    kept = {path: path.stat().st_mtime_ns for path in (STORE / "trials").rglob("*") if path.is_file()}
    before = report_in(STORE)
    again = CliRunner().invoke(app, words(CLASSES)[1:])
    assert again.exit_code == 0, again.output
    assert "Trials: 1 kept, 0 resumed, 0 new, 0 failed; all trials are done." in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (STORE / "trials").rglob("*") if path.is_file()} == kept
    after = report_in(STORE)
    told = ("originals", "front", "recommended", "base", "num_candidates", "cost")
    assert {name: after[name] for name in told} == {name: before[name] for name in told}


def test_without_data_it_prints_figures_and_writes_adapters(home: Path, run_without: Run, tmp_path: Path) -> None:
    to = tmp_path / "cuts"
    report = json.loads(run_without(*words(BLIND), "--kept", ".5,.25", "--json", "--to", str(to), cwd=home).stdout)
    whole = load_file(home / "my_adapter" / "adapter_model.safetensors")
    names = {f"kept-{kept}-{allocation}" for kept in (0.5, 0.25) for allocation in ("uniform", "global_per_parameter")}
    assert {path.name for path in to.iterdir()} == {*names, "shrink.json", "change.png"}
    assert report["adapter_params"] == sum(each.numel() for name, each in whole.items() if "lora_" in name)
    for cut in json.loads((to / "shrink.json").read_text())["cuts"]:
        with seeded():
            base: Any = AutoModelForSequenceClassification.from_pretrained(home / "base", num_labels=2)
            adapted = PeftModel.from_pretrained(base, str(to / cut["adapter_path"]))
        factors = {name: each for name, each in adapted.named_parameters() if "lora_" in name}
        # What vanished altogether is no module of the adapter.
        assert (
            sum(each.numel() for each in factors.values())
            == cut["adapter_params"]
            <= cut["size"] * report["adapter_params"]
        )
        moved = change_by_hand(adapted, home)
        assert cut["relative_change"] == pytest.approx(moved, rel=1e-3)


@pytest.mark.slow
def test_without_data_it_prints_tables(home: Path, run: Run) -> None:
    """As the README has it, without an option, and for every layer."""
    said = run(*words(BLIND), cwd=home).stdout
    assert "Relative change of the whole update" in said
    assert "and is no accuracy" in " ".join(said.split())
    assert "self.query (2)" in said
    assert "layer.0.attention.self.query" in "".join(run(*words(BLIND), "--layers", cwd=home).stdout.split())


@pytest.mark.slow
def test_so_it_is_on_the_pretrained_model(run_without: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is what to whom, in small families; classes in an order of the adapter's own."""
    monkeypatch.chdir(tmp_path)
    rows = list(
        reasoning_gym.create_dataset("family_relationships", min_family_size=3, max_family_size=4, size=80, seed=3)
    )
    labels = sorted({row["answer"] for row in rows}, reverse=True)
    with Path("families.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *((row["question"], row["answer"]) for row in rows)])
    classifier_adapter(minilm_folder(), Path("families.csv"), labels, Path("mine"), steps=6, batch_size=16, rate=3e-3)
    options = ["--data", "families.csv", "--labels", ",".join(labels), "--mean-rank", "1", "--storage", "store"]
    templates = ["--prompt", "{text}", "--target", "{label}"]
    run_without(*words("prunedlora shrink mine --steps 0"), *templates, *options, cwd=tmp_path, timeout=500)
    report = report_in(Path("store"))
    is_by_hand_as_on_record(report, minilm_folder(), labels)
