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
from transformers import PreTrainedTokenizerBase

from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.config.harness_tasks import is_path
from prunedlora.config.identity import template_file
from prunedlora.config.metric_names import harness_metric
from prunedlora.config.trial import TrialConfig
from prunedlora.missing_path import looked_for
from prunedlora.results.record import Figure
from prunedlora.training.distributed import Workers
from prunedlora.training.harness import (
    HarnessError,
    HarnessSettings,
    check_chat_template,
    check_share,
    evaluate_harness,
    load_tasks,
    num_documents,
)
from prunedlora.training.harness_objective import (
    DocumentScores,
    check_objective,
    check_share_of_one,
    document_scores,
)
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.model import load_tokenizer
from prunedlora.trial.base_cache import model_settings
from prunedlora.trial.candidates import recorded


@dataclass(frozen=True)
class HarnessFigures:
    figures: dict[str, Figure]
    """`harness/<task>/<metric>` → figure, on all workers."""
    scores: DocumentScores | None
    """Of the objective; rank 0 alone has them. None where it is no figure of the harness, or no mean over the documents
    of one task."""
    left_out: str = ""
    """Which figures there are not since they are not finite, in words; empty: none."""


@dataclass(frozen=True)
class Harness:
    """Loaded tasks, and how they are measured."""

    settings: HarnessSettings
    tasks: dict[str, Any]
    objective: tuple[str, str] | None = None
    """Task and metric of the figure that is the quality of the sweep; None: another is."""

    @property
    def num_documents(self) -> int:
        """Documents of one measurement, of all tasks together."""
        return num_documents(self.tasks, self.settings)

    def measure(self, model: nn.Module, trial: TrialConfig, dtype: torch.dtype, workers: Workers) -> HarnessFigures:
        """Measures the model as it stands; `dtype` is that of autocast. Raises on all workers alike: NonFiniteError for
        an objective that is not finite; HarnessError for one that is not there or outside of [0, 1], and where there is
        not one figure that is finite."""
        measured = evaluate_harness(
            model,
            harness_tokenizer(trial, self.settings),  # of its own: the harness may change it
            self.tasks,
            self.settings,
            dtype=dtype,
            workers=workers,
            template_kwargs=trial.data.chat_template_kwargs,
            log_samples=self.objective is not None,
        )
        figures = recorded(measured.figures)
        left_out = ", ".join(f"{name} is {value}" for name, value in measured.not_finite.items())
        if self.objective is None:
            if left_out and not figures:
                raise HarnessError(left_out)
            return HarnessFigures(figures, None, left_out)
        (task, metric), name = self.objective, trial.evaluation.figure
        if name in measured.not_finite:
            raise NonFiniteError(f"{name} is {measured.not_finite[name]}")
        if name not in figures:
            raise HarnessError(f"the harness gave no {name}, but {', '.join(figures)}")
        check_share_of_one(name, figures[name].value)
        scores = document_scores(measured.samples.get(task, ()), metric, figures[name].value)
        return HarnessFigures(figures, scores, left_out)


def load_harness(trial: TrialConfig, num_workers: int) -> Harness | None:
    """The harness tasks of a configuration; None when it names none. Raises HarnessError as `load_tasks`, for a task
    with fewer documents than workers, an objective that none of them gives, and a chat template that is not there;
    LocationError, ModelError, where that is looked for."""
    evaluation = trial.evaluation
    if evaluation.harness_tasks is None:
        return None
    settings = harness_settings(evaluation.harness_tasks, evaluation.harness or HarnessConfig())
    tasks = load_tasks(settings)
    check_share(tasks, settings, num_workers)
    objective = harness_metric(evaluation.metric)
    if objective is not None:
        check_objective(tasks, *objective)
    if settings.apply_chat_template:
        harness_tokenizer(trial, settings)
    return Harness(settings, tasks, objective)


def harness_tokenizer(trial: TrialConfig, settings: HarnessSettings) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with the chat template that the adapter was trained with. Raises HarnessError where one is
    to be applied that is not there, LocationError, ModelError."""
    tokenizer = load_tokenizer(model_settings(trial))
    if settings.apply_chat_template and (file := template_file(trial.data)) is not None:
        try:
            tokenizer.chat_template = file.read_text("utf-8")
        except OSError as error:
            raise HarnessError(f"data.chat_template: {file} cannot be read ({error.strerror})") from error
    check_chat_template(tokenizer, settings, trial.data.chat_template_kwargs)
    return tokenizer


def harness_settings(tasks: Sequence[str], config: HarnessConfig) -> HarnessSettings:
    """Tasks told apart into names and paths. Raises HarnessError for a path that does not exist."""
    paths = [Path(task).expanduser().resolve() for task in tasks if is_path(task)]
    if missing := [path for path in paths if not path.exists()]:
        missing_path = str(missing[0])
        raise HarnessError(
            f"harness_tasks: {missing_path} does not exist ({looked_for(missing_path)})"
        ) from FileNotFoundError(missing_path)
    return HarnessSettings(tuple(task for task in tasks if not is_path(task)), tuple(paths), **config.model_dump())
