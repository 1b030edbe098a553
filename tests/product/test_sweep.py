"""The main job on the real pretrained model: what it prints, what it writes, that the adapter is the one it says."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import minilm_folder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def front(storage: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((storage / "report" / "front.json").read_text())
    return document


def test_prints_progress_front_recommendation_and_paths(sweep_output: str, storage: Path) -> None:
    for expected in (
        "3/3 done, 0 running, 0 failed",
        "best accuracy",
        "Recommended: ",
        "(validation)",
        "On the test split, by which nothing was chosen, it has accuracy",
        f"Report: {storage}/report/report.html",
        f"Adapter: {storage}/recommended",
        "Trials: 0 kept, 0 resumed, 3 new, 0 failed",
    ):
        assert expected in " ".join(sweep_output.split())  # lines break where the terminal ends


def test_front_json_has_what_other_tools_read(front: dict[str, Any]) -> None:
    assert front["sweep"] == "quickstart"
    assert front["objectives"] == {"accuracy": "maximize", "adapter_params": "minimize"}
    assert front["hypervolume"] > 0
    assert {"accuracy", "adapter_params"} == set(front["reference_point"])
    fields = "key step accuracy accuracy_stderr num_examples adapter_params adapter_bytes max_rank served_slot"
    fields += " adapter_path config"
    for point in front["front"]:
        assert set(fields.split()) <= set(point)
        assert Path(point["adapter_path"], "adapter_model.safetensors").is_file()
        assert point["num_examples"] == 100
    sizes = [point["adapter_params"] for point in front["front"]]
    accuracies = [point["accuracy"] for point in front["front"]]
    assert sizes == sorted(set(sizes))
    assert accuracies == sorted(set(accuracies))
    recommended = front["recommended"]
    assert (recommended["key"], recommended["step"]) in {(point["key"], point["step"]) for point in front["front"]}


def test_report_and_tables_stand_beside_it(storage: Path) -> None:
    page = (storage / "report" / "report.html").read_text()
    assert "<html" in page
    command = (storage / "command.txt").read_text()
    assert command.startswith("python jobs/search.py search_spaces/quickstart.yaml --storage ")
    importances = json.loads((storage / "importances.json").read_text())
    assert importances["objectives"]["accuracy"]["reason"] in page
    assert (storage / "report" / "front.png").read_bytes().startswith(b"\x89PNG")
    with (storage / "report" / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    methods = {row["config.adapter.method"] for row in rows}
    assert methods == {"rslora", "prunedlora"}
    assert len({row["key"] for row in rows}) == 3
    assert (storage / "report" / "front.csv").stat().st_size > 0


PLAIN = """
import importlib.abc, json, sys

class NoPrunedLora(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "prunedlora":
            raise ImportError(name)

sys.meta_path.insert(0, NoPrunedLora())
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base, adapter, questions, labels, merge = json.loads(sys.argv[1])
names = sorted(set(labels))
model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(names))
model = PeftModel.from_pretrained(model, adapter)
if merge:
    model = model.merge_and_unload()
model.eval()
inputs = AutoTokenizer.from_pretrained(base)(questions, padding=True, return_tensors="pt")
inputs.pop("token_type_ids", None)
with torch.no_grad():
    predicted = model(**inputs).logits.argmax(-1)
right = sum(names[int(p)] == label for p, label in zip(predicted, labels))
print(right / len(labels))
"""


@pytest.mark.parametrize("merge", [False, True])
def test_the_adapter_gives_its_recorded_accuracy_without_our_code(
    run: Run, front: dict[str, Any], storage: Path, merge: bool
) -> None:
    """In a Python that cannot import prunedlora, with PEFT alone, unmerged and merged, on the same examples."""
    from prunedlora.config.load import load_sweep
    from prunedlora.trial.assets import load_task
    from tests.product.conftest import QUICK

    splits, task = load_task(load_sweep(Path("search_spaces/quickstart.yaml"), QUICK).trial)
    examples = splits.validation[:100]
    assert set(task.labels or ()) == {example.target for example in examples}
    arguments = [
        str(minilm_folder()),
        str(storage / "recommended"),
        [example.prompt for example in examples],
        [example.target for example in examples],
        merge,
    ]
    accuracy = float(run(sys.executable, "-c", PLAIN, json.dumps(arguments)).stdout)
    recommended = next(
        p for p in front["front"] if all(p[name] == front["recommended"][name] for name in ("key", "candidate"))
    )
    recorded = recommended["accuracy"]
    assert accuracy == pytest.approx(recorded, abs=1e-9)


def test_the_same_command_again_trains_nothing(
    run: Run, sweep_output: str, quick_command: list[str], storage: Path, front: dict[str, Any]
) -> None:
    records = {path: path.stat().st_mtime_ns for path in storage.glob("trials/*/record.json")}
    output = run(*quick_command).stdout
    assert "Trials: 3 kept, 0 resumed, 0 new, 0 failed" in output
    assert {path: path.stat().st_mtime_ns for path in storage.glob("trials/*/record.json")} == records
    assert json.loads((storage / "report" / "front.json").read_text()) == front


def test_another_sweep_in_the_same_storage_is_refused(run: Run, quick_command: list[str], storage: Path) -> None:
    done = run(*quick_command, "--set", "trial.training.batch_size=12", code=2)
    assert "holds another sweep" in done.stderr
    assert "trial.training.batch_size was 16, is 12" in done.stderr


def test_bad_input_starts_nothing(run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "jobs/search.py", "search_spaces/quickstart.yaml", "--storage", str(tmp_path / "s")]
    done = run(*command, "--set", "trial.adapter.target_modules=[q_proj]", code=2)
    assert "q_proj" in done.stderr
    assert not (tmp_path / "s").exists()
    done = run(*command, "--set", "resources.num_workers=64", "--set", "trial.training.batch_size=64", code=2)
    assert "64" in done.stderr
