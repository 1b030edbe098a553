"""An adapter that exists before a first step: evaluated as it came, cut, laddered down; killed anywhere it goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.loop import Verdict
from prunedlora.trial import execute as execute_module
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.candidates import recorded
from prunedlora.trial.execute import execute_trial
from tests.ranks import run_ranks
from tests.tiny import WORDS, decoder_tree, sweep_tree

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
NUM_TRAINED = 10
CUTS = {
    "sizes": {"mean_rank": [3, 0.5]},
    "bases": ["svd", "whitened"],
    "screen_examples": None,
    "calibration_examples": NUM_TRAINED,
}
SVD = {"basis": "svd", "allocation": "global_per_parameter", "min_rank": 0}
EVENTS = {"removal": "linear", "every_steps": 1}
LORA = {"adapter.method": "lora", "pruning": None}
TIMES = {"train_seconds", "evaluation_seconds"}


class KilledError(BaseException):
    """What no `except Exception` sees."""


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Trained on ten texts of ten lengths at once: every step sees the same in the same order, wherever it stands."""
    folder = tmp_path_factory.mktemp("tiny")
    tree = sweep_tree(folder, "unused")
    rows = [" ".join(WORDS[(n + i) % 8] for i in range(n + 1)) for n in range(NUM_TRAINED)]
    head, *others = (folder / "data.csv").read_text().splitlines()
    lines = {
        "train": [f"{row},{'front' if row.split()[0] in WORDS[:4] else 'back'}" for row in rows],
        "validation": others[:60],
        "test": others[60:],
    }
    source = tree["trial"]["data"]["train"]
    tree["trial"]["data"] = {"task": "text_classification"}
    for split, some in lines.items():
        (folder / f"{split}.csv").write_text("\n".join([head, *some]) + "\n")
        tree["trial"]["data"][split] = source | {"name": str(folder / f"{split}.csv")}
    tree["trial"]["training"] = {"num_steps": 6, "batch_size": NUM_TRAINED}
    tree["trial"]["evaluation"] |= {"milestones": [], "max_examples": 40}
    return tree


def trial_of(tree: dict[str, Any], values: dict[str, Any]) -> TrialConfig:
    return trial_with(parse_sweep(tree, "test").trial, values)


def ladder(schedule: dict[str, Any], **sizes: Any) -> dict[str, Any]:
    return {"name": "ladder", "rungs": sizes or {"parameters": [500, 200]}} | schedule


def start(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The adapter's section for one that exists."""
    adapter = {"start_from": name, "head_modules": ["pooler", "classifier"], "method": values.pop("method")}
    return {"adapter": adapter} | values


def run(
    trial: TrialConfig,
    path: Path,
    assets: AssetCache,
    report: Callable[[dict[str, Any]], Verdict] = lambda _: Verdict.CONTINUE,
    progress: Callable[[int, int, float], Verdict] = lambda *_: Verdict.CONTINUE,
    workers: Workers = ALONE,
    **more: Any,
) -> str:
    store = Store(str(path))
    if workers.rank == 0:
        store.create_or_open({"storage": str(path)})
    return execute_trial(
        trial, trial_key(trial), store=store, assets=assets, workers=workers, epoch=1, max_attempts=99,
        report=report, progress=progress, **more,
    )  # fmt: skip


def record_of(trial: TrialConfig, path: Path) -> TrialRecord:
    record = Store(str(path)).read_record(trial_key(trial))
    assert record is not None
    assert record.status == "completed", record.failure
    return record


def left(path: Path, record: TrialRecord, candidate: Candidate) -> list[Any]:
    """Figures, outcomes and weights of a candidate, but not where it stands."""
    store = Store(str(path))
    outcomes = store.read_outcomes(record.key, candidate.name)
    weights = load_file(path / "trials" / record.key / str(candidate.adapter_path) / "adapter_model.safetensors")
    return [candidate.cut, candidate.figures, candidate.ranks, outcomes, {k: v.tolist() for k, v in weights.items()}]


def all_of(path: Path, record: TrialRecord) -> list[Any]:
    return [(one.model_dump(exclude=TIMES), left(path, record, one)) for one in record.candidates]


@pytest.fixture(scope="module")
def trained(tree: dict[str, Any], assets: AssetCache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a ladder of a trunk of six steps and two rungs of four, and the name of the trunk's adapter."""
    path = tmp_path_factory.mktemp("trained") / "store"
    trial = down_from_scratch(tree, SVD, {})
    run(trial, path, assets)
    record_of(trial, path)
    return path, f"store:{path}/{trial_key(trial)}@6"


def down_from_scratch(tree: dict[str, Any], pruning: dict[str, Any], schedule: dict[str, Any]) -> TrialConfig:
    schedule = ladder({"trunk": 0.43} | schedule)
    return trial_of(tree, {"pruning": {"schedule": schedule} | pruning, "training.num_steps": 14})


def down_from(tree: dict[str, Any], name: str, pruning: dict[str, Any], **schedule: Any) -> TrialConfig:
    """Eight steps of the same ladder's rungs, from an adapter that exists."""
    values = {"method": "prunedlora", "pruning": {"schedule": ladder({"trunk": 0.0} | schedule)} | pruning}
    return trial_of(tree, start(values, name) | {"training.num_steps": 8})


def test_a_first_trial(tree: dict[str, Any], assets: AssetCache, trained: tuple[Path, str], tmp_path: Path) -> None:
    path, name = trained
    trial = down_from(tree, name, SVD)
    print(run(trial, tmp_path / "s", assets))
    rec = record_of(trial, tmp_path / "s")
    print([(c.name, c.rung, c.progress, c.ranks, c.figures) for c in rec.candidates])
    whole = record_of(down_from_scratch(tree, SVD, {}), path)
    print([(c.name, c.rung, c.progress, c.ranks, c.figures) for c in whole.candidates])
    for a, b in zip(rec.candidates, whole.candidates):
        assert left(tmp_path / "s", rec, a) == left(path, whole, b)
