"""An adapter that exists, and trials that begin with it: not trained at all, or down a ladder without a trunk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import WORDS, sweep_tree

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
RAW = {"recovery_strength": 1.0, "allocation": "global_per_parameter", "min_rank": 0}
EVENTS = {"removal": "linear", "every_steps": 1}
TIMES = {"train_seconds", "evaluation_seconds"}


def tree_in(folder: Path) -> dict[str, Any]:
    """Trained on ten texts of ten lengths at once: every step sees the same in the same order, wherever it stands."""
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


def ladder(schedule: dict[str, Any]) -> dict[str, Any]:
    return {"name": "ladder", "rungs": {"parameters": [500, 200]}} | schedule


def start(method: str, name: str) -> dict[str, Any]:
    """The adapter's section for one that exists."""
    return {"adapter": {"start_from": name, "head_modules": ["pooler", "classifier"], "method": method}}


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


def lines(trial: TrialConfig, path: Path) -> list[dict[str, Any]]:
    """The log but for what says when it was gone on with, and where the time went."""
    kept = [
        line for line in Store(str(path)).read_log(trial_key(trial)) if not {"resumed_at_step", "time"} & line.keys()
    ]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in kept]


def down_from_scratch(
    tree: dict[str, Any], pruning: dict[str, Any], schedule: dict[str, Any], values: dict[str, Any]
) -> TrialConfig:
    schedule = ladder({"trunk": 0.43} | schedule)
    return trial_of(tree, {"pruning": {"schedule": schedule} | pruning, "training.num_steps": 14} | values)


def down_from(
    tree: dict[str, Any],
    name: str,
    pruning: dict[str, Any],
    schedule: dict[str, Any] | None = None,
    values: dict[str, Any] | None = None,
) -> TrialConfig:
    """Eight steps of the same ladder's rungs, from an adapter that exists."""
    whole = {"pruning": {"schedule": ladder({"trunk": 0.0} | (schedule or {}))} | pruning, "training.num_steps": 8}
    return trial_of(tree, start("prunedlora", name) | whole | (values or {}))


def untrained(tree: dict[str, Any], name: str, values: dict[str, Any]) -> TrialConfig:
    """An adapter that exists, and nothing to train; `values`: what it is cut to, and its method unless lora."""
    method = values.get("method", "lora")
    own = {path: value for path, value in values.items() if path != "method"}
    return trial_of(tree, start(method, name) | {"pruning": None, "training.num_steps": 0} | own)
