"""lm-evaluation-harness as a trial's configuration asks for it.

A trial's adapter is measured as it stands in memory, after it was exported and its reloaded copy gave the same logits:
a second base model would not fit beside a large one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunedlora.config.harness_tasks import is_path
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import HarnessConfig
from prunedlora.missing_path import looked_for
from prunedlora.results.record import Figure
from prunedlora.training.distributed import Workers
from prunedlora.training.harness import HarnessError, HarnessSettings, check_share, evaluate_harness, load_tasks
from prunedlora.training.model import load_tokenizer
from prunedlora.trial.base_cache import model_settings
from prunedlora.trial.candidates import recorded


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
        missing_path = str(missing[0])
        raise HarnessError(
            f"harness_tasks: {missing_path} does not exist ({looked_for(missing_path)})"
        ) from FileNotFoundError(missing_path)
    return HarnessSettings(tuple(task for task in tasks if not is_path(task)), tuple(paths), **config.model_dump())
