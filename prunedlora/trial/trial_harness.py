"""lm-evaluation-harness as a trial's configuration asks for it, and on an adapter of a store.

A trial's adapter is measured as it stands in memory, after it was exported and its reloaded copy gave the same logits:
a second base model would not fit beside a large one. A stored adapter is loaded by PEFT alone, as anyone would.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunedlora.adapters.attach import load
from prunedlora.config.harness_tasks import is_path
from prunedlora.config.trial import HarnessConfig, TrialConfig
from prunedlora.delivery.stored_adapter import fetch_adapter
from prunedlora.registry import lookup
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.harness_document import HarnessRun
from prunedlora.results.record import Figure
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.harness import HarnessError, HarnessSettings, check_share, evaluate_harness, load_tasks
from prunedlora.training.model import load_tokenizer
from prunedlora.trial.assets import load_base_of, model_facts, model_settings
from prunedlora.trial.candidates import ADAPTER, recorded
from prunedlora.trial.environment import environment


@dataclass(frozen=True)
class Harness:
    """Loaded tasks, and how they are measured."""

    settings: HarnessSettings
    tasks: dict[str, Any]

    def measure(self, model: nn.Module, trial: TrialConfig, dtype: torch.dtype, workers: Workers) -> dict[str, Figure]:
        """`harness/<task>/<metric>` → figure, on all workers; `dtype` is that of autocast."""
        tokenizer = load_tokenizer(model_settings(trial))  # of its own: the harness may change it
        figures = evaluate_harness(model, tokenizer, self.tasks, self.settings, dtype=dtype, workers=workers)
        return recorded(figures)


def load_harness(trial: TrialConfig, num_workers: int) -> Harness | None:
    """The harness tasks of a configuration; None when it names none. Raises HarnessError as `load_tasks`, and for a
    task with fewer documents than workers."""
    evaluation = trial.evaluation
    if evaluation.harness_tasks is None:
        return None
    settings = harness_settings(evaluation.harness_tasks, evaluation.harness or HarnessConfig())
    tasks = load_tasks(settings)
    check_share(tasks, settings, num_workers)
    return Harness(settings, tasks)


def harness_settings(tasks: Sequence[str], config: HarnessConfig) -> HarnessSettings:
    """Tasks told apart into names and paths. Raises HarnessError for a path that does not exist."""
    paths = [Path(task).expanduser().resolve() for task in tasks if is_path(task)]
    if missing := [path for path in paths if not path.exists()]:
        raise HarnessError(f"harness_tasks: {missing[0]} does not exist")
    return HarnessSettings(tuple(task for task in tasks if not is_path(task)), tuple(paths), **config.model_dump())


def measure_stored(store: Store, candidate: str, tasks: Sequence[str], config: HarnessConfig) -> HarnessRun:
    """Measures the adapter of `<key>` (its last candidate) or `<key>@<candidate>` in a store, in one process. Writes
    nothing: results.harness keeps what comes out.

    Raises:
        UnknownCandidateError: no such candidate.
        StoredAdapterError: its adapter is gone or damaged.
        HarnessError: as `load_tasks`, or the trial's model has a classification head.
        ModelError, LocationError: the base model cannot be loaded.
    """
    record, chosen = find_candidate(store, candidate)
    trial = TrialConfig.model_validate(record.config)
    task = lookup("task", trial.data.task)
    if task.auto_model != "AutoModelForCausalLM":
        raise HarnessError(
            f"{candidate}: lm-evaluation-harness needs a causal language model; that of task {trial.data.task!r} has a "
            "classification head"
        )
    settings = harness_settings(tasks, config)
    harness = Harness(settings, load_tasks(settings))
    workers = Workers(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adapter"
        fetch_adapter(store, record, chosen, folder)
        base = load_base_of(trial, task.auto_model, {}, workers.device)
        figures = harness.measure(load(base.model, folder, ADAPTER), trial, base.dtype, workers)
    return HarnessRun(
        key=record.key,
        candidate=chosen.name,
        tasks=tuple(tasks),
        settings=config.model_dump(),
        figures=figures,
        environment=environment(workers, None).model_copy(update={"model": model_facts(trial, base)}),
    )
