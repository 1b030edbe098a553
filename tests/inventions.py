"""A small sweep and invented records."""

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from prunedlora.results.ask import Ask
from prunedlora.results.record import BaseReference, Candidate, Environment, Failure, Figure, TrialRecord

if TYPE_CHECKING:
    from prunedlora.fleet.board import Work
    from prunedlora.fleet.worker import Bench
    from prunedlora.study.asker import Asker

SPACE: dict[str, Any] = {
    "adapter.initial_rank": {"choice": [4, 8, 16]},
    "adapter.target_modules": {"choice": ["all-linear", ["query", "value"]]},
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "pruning.target_sparsity": {"uniform": [0.1, 0.7]},
    "pruning.schedule.name": {"choice": ["cubic", "one_shot"]},
    "pruning.schedule.begin": {"uniform": [0.1, 0.3]},
    "pruning.schedule.end": {"uniform": [0.5, 0.7], "when": {"pruning.schedule.name": ["cubic"]}},
    "training.num_steps": {"int": [10, 40], "step": 10},
}


def sweep_tree(storage: Path, **changes: Any) -> dict[str, Any]:
    """A whole sweep as its YAML would give it; `changes` replace top-level fields."""
    source = {
        "name": "reasoning_gym:family_relationships",
        "options": {"min_family_size": 3, "max_family_size": 4},
        "seed": 1,
        "num_examples": 64,
        "prompt": "{question}",
        "target": "{answer}",
    }
    tree: dict[str, Any] = {
        "name": "small",
        "storage": str(storage),
        "objectives": {"accuracy": "maximize", "adapter_params": "minimize"},
        "num_trials": 6,
        "trial": {
            "model": {"name": "some/model"},
            "data": {"task": "text_classification", "train": source, "num_validation": 8, "num_test": 8},
            "adapter": {"initial_rank": 8, "alpha": 8},
            "pruning": {
                "target_sparsity": 0.5,
                "schedule": {"name": "one_shot", "begin": 0.2, "end": None, "every_steps": 2},
            },
            "optimizer": {"learning_rate": 1e-3},
            "training": {"num_steps": 20, "batch_size": 4},
            "evaluation": {"metric": "accuracy"},
        },
        "space": SPACE,
    }
    return tree | changes


def invented_record(key: str, config: dict[str, Any], status: Any = "completed") -> TrialRecord:
    """A record as a trial of this configuration might leave it: figures from a hash of the configuration."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest()
    rank = config["adapter"]["initial_rank"]
    figure = Figure(value=digest[0] / 255, stderr=0.01, num_examples=100)
    candidate = Candidate(
        step=config["training"]["num_steps"],
        progress=1.0,
        figures={"accuracy": figure, "loss": figure},
        ranks={"layer": rank},
        adapter_params=rank * 100 + digest[1],
        adapter_bytes=rank * 400,
        head_params=0,
        file_bytes=rank * 500,
        max_rank=rank,
        served_slot=16,
        train_seconds=1.0,
        tokens_seen=100,
        examples_seen=10,
    )
    return TrialRecord(
        key=key,
        config=config,
        status=status,
        failure=Failure(type="ValueError", message="invented", traceback="") if status == "failed" else None,
        attempts=1,
        candidates=() if status == "failed" else (candidate,),
        environment=Environment(packages={}, device="cpu", num_workers=1, model={}, data={}),
        train_seconds=1.0,
    )


def invent_adapter(folder: Path) -> None:
    """Puts files that can be read as an adapter's into a folder."""
    (folder / "adapter_config.json").write_text("{}")
    save_file({"weight": torch.zeros(1)}, folder / "adapter_model.safetensors")


def next_ask(asker: "Asker") -> Ask | None:
    """What the asker hands out next, once the study has been asked."""
    while (ask := asker.next()) is None and asker.asking:
        time.sleep(0.005)
    return ask


def pretend(work: "Work", bench: "Bench") -> str:
    """Does the work of a slot without training: a stand-in for `execute_work` in tests of the plumbing.

    The trial's seed says what happens: it takes seed / 1000 seconds, and from 1000 on its process dies the first time.
    """
    store, settings = bench.store, bench.settings
    if work["kind"] == "base":
        figure = Figure(value=0.1, stderr=0.01, num_examples=100)
        store.write_base(BaseReference(figures={"accuracy": figure, "loss": figure}))
        return "completed"
    key = work["key"]
    config = store.read_config(key)
    folder = store.trial_path(key, "adapters", f"{config['training']['num_steps']:06d}")
    if work["kind"] == "test":
        figures = {"accuracy": {"value": 0.5, "stderr": 0.01, "num_examples": 100}}
        store.storage.write_text(f"{folder}/test.json", json.dumps({"figures": figures, "certificate": {}}))
        return "completed"
    attempt = store.begin_attempt(key, settings.epoch)
    if config["seed"] >= 1000 and attempt == 1:
        os._exit(1)
    deadline = time.monotonic() + config["seed"] / 1000
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if bench.progress(1, 2, 10.0) == "pause":
            return "paused"
    record = invented_record(key, config)
    with tempfile.TemporaryDirectory() as scratch:
        invent_adapter(Path(scratch))
        store.upload_folder(Path(scratch), folder)
    path = folder.removeprefix(store.trial_path(key) + "/")
    last = record.candidates[-1].model_copy(update={"adapter_path": path})
    bench.report(key, last.model_dump(mode="json"))
    store.write_record(record.model_copy(update={"candidates": (last,)}), settings.epoch, attempt)
    return "completed"
