"""What the product costs beside training: against Ray's documented pattern, and against bare processes.

The documented pattern is a Tune trial that starts a `TorchTrainer` of its own and reports through a callback:
https://docs.ray.io/en/latest/train/user-guides/hyperparameter-optimization.html
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from rich.console import Console

from prunedlora.benchmarks.product.bare import bare_seconds, train_bare
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.fleet import cluster
from prunedlora.results.store import Store
from prunedlora.sweep.outcome import STATS_FILE
from prunedlora.sweep.run import run_sweep
from prunedlora.trial.assets import load_assets

SHORT = {
    "training.num_steps": 8,
    "evaluation.max_examples": 16,
    "data.num_test": 100,
}
"""What makes a trial of the quickstart last about a second (and the test of the recommended adapter not much more)."""


def trials_per_hour(config: SweepConfig, *, num_documented: int, num_slot: int, console: Console) -> dict[str, Any]:
    """The same short trials in the documented pattern and in slots, two at once both times.

    `documented` counts the whole run, since every trial pays it; `slots` leaves the start of the slots out, which is
    paid once and reported apart.
    """
    trials = [trial_with(config.trial, {**SHORT, "seed": seed}) for seed in range(max(num_documented, num_slot))]
    console.print(f"{num_documented} short trials, one TorchTrainer each (the documented pattern) …")
    documented = _documented(trials[:num_documented])
    console.print(f"{num_slot} short trials in slots …")
    stats = _in_slots(config, num_slot, console)
    slots = stats["wall_seconds"] - stats["startup_seconds"]
    rates = {"documented": 3600 * num_documented / documented, "slots": 3600 * num_slot / slots}
    return {
        "num_trials": {"documented": num_documented, "slots": num_slot},
        "wall_seconds": {"documented": documented, "slots": stats["wall_seconds"]},
        "slots_startup_seconds": stats["startup_seconds"],
        "trials_per_hour": rates,
        "ratio": rates["slots"] / rates["documented"],
        "ratio_with_startup": 3600 * num_slot / stats["wall_seconds"] / rates["documented"],
    }


def efficiency(store: Store, console: Console) -> dict[str, Any]:
    """Bare seconds of a finished sweep's own configurations, over the seconds that its slots were there, from each
    one's start to the end of the sweep (search, evaluation, checks, report: all is in it but the start of the slots).

    Meant for a sweep that ran in one piece on this machine. Raises ValueError for one that did not.
    """
    text = store.storage.read_text(STATS_FILE)
    stats = json.loads(text) if text else {}
    if not stats or stats["num_kept"] or stats["num_resumed"] or stats["num_failed"]:
        raise ValueError(f"{store.uri}: the efficiency is that of a sweep run in one piece, without failed trials")
    records = store.records()
    cpus = store.read_sweep()["resources"]["cpus_per_worker"]
    console.print(f"{len(records)} configurations bare, {stats['num_slots']} processes at once …")
    seconds = bare_seconds(
        [TrialConfig.model_validate(record.config) for record in records], stats["num_slots"], num_threads=cpus
    )
    available = sum(slot["available_seconds"] for slot in stats["slots"])
    return {
        "num_trials": len(records),
        "num_slots": stats["num_slots"],
        "bare_seconds": sum(seconds),
        "sweep_wall_seconds": stats["wall_seconds"],
        "slots_startup_seconds": stats["startup_seconds"],
        "efficiency": sum(seconds) / available,
    }


def _documented(trials: Sequence[TrialConfig]) -> float:
    """Wall seconds of one Tune run; its drivers and workers share two CPUs, so that two trials run at once."""
    with cluster.connected(), tempfile.TemporaryDirectory() as scratch:

        def drive(config: dict[str, Any]) -> None:
            TorchTrainer(
                _train_loop,
                train_loop_config=config,
                scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.9}),
                run_config=RunConfig(
                    name=f"trial-{config['trial']['seed']}", storage_path=scratch, callbacks=[TuneReportCallback()]
                ),
            ).fit()

        configs = [trial.model_dump(mode="json") for trial in trials]
        began = time.monotonic()
        results = tune.Tuner(
            tune.with_resources(drive, {"CPU": 0.1}),
            param_space={"trial": tune.grid_search(configs)},
            tune_config=tune.TuneConfig(max_concurrent_trials=2),
            run_config=tune.RunConfig(name="documented", storage_path=scratch, verbose=0),
        ).fit()
        seconds = time.monotonic() - began
        if results.num_errors:
            raise RuntimeError(f"{results.num_errors} trials of the documented pattern failed: {results.errors[0]}")
        return seconds


def _train_loop(config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    trial = TrialConfig.model_validate(config["trial"])
    device = torch.device("cpu")
    ray.train.report({"seconds": train_bare(trial, load_assets(trial, device), device)})


def _in_slots(config: SweepConfig, num_trials: int, console: Console) -> dict[str, Any]:
    """Statistics of a sweep whose trials are the short ones, nothing searched."""
    fixed = {
        "trial": trial_with(config.trial, SHORT),
        "baselines": [{"seed": seed} for seed in range(num_trials)],
        "space": {},
        "num_trials": 0,
        "resources": config.resources.model_copy(update={"num_slots": 2}),
    }
    with tempfile.TemporaryDirectory() as scratch:
        uri = str(Path(scratch) / "store")
        run_sweep(config.model_copy(update=fixed), uri, console=console)
        stats: dict[str, Any] = json.loads(Store(uri).storage.read_text(STATS_FILE) or "{}")
    return stats
