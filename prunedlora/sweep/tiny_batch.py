"""One batch through task, adapter and model, where the model is small: with random weights, forward and backward."""

from collections.abc import Sequence

import torch

from prunedlora.adapters.reach import check_gradients
from prunedlora.config.trial import TrialConfig
from prunedlora.tasks.batching import evaluating
from prunedlora.tasks.task import Features, Task
from prunedlora.training.model import ModelError, check_causal, load_random
from prunedlora.trial.assemble import build_method
from prunedlora.trial.assets import Skeleton
from prunedlora.trial.base_cache import model_settings
from prunedlora.trial.candidates import ADAPTER

MOST_PARAMS = 50_000_000
"""Largest model that is tried, about a second; larger ones are seldom of a new shape."""


def is_small(skeleton: Skeleton) -> bool:
    """Whether the model is tried."""
    return sum(parameter.numel() for parameter in skeleton.model.parameters()) <= MOST_PARAMS


def try_batch(trial: TrialConfig, task: Task, skeleton: Skeleton, num_steps: int, examples: Sequence[Features]) -> None:
    """Trains nothing, but does what a step does up to the gradients, on the CPU. The random state is left as it was.

    Raises ModelError with the model's own error, for a model that is not causal where it must be, and for an adapted
    layer without a gradient.
    """
    settings = model_settings(trial)
    model = load_random(settings, task.auto_model, task.model_settings)
    kind = type(model).__name__
    try:
        check_causal(settings, task.auto_model, model)
        model.requires_grad_(False)
        method = build_method(trial, num_steps, skeleton.reach.modules)
        adapted = method.attach(model, ADAPTER)
        batch = task.collate(examples)
        with torch.random.fork_rng(devices=[]):
            loss, num_targets = task.loss(adapted.train(), batch)
            (loss / num_targets).backward()
        with evaluating(adapted):
            task.loss(adapted, batch)
        check_gradients(adapted)
        method.close()
    except ModelError:
        raise
    except Exception as error:  # whatever model code raises
        raise ModelError(
            f"model {trial.model.name!r} ({kind}) fails at its first batch, of {len(examples)} examples of up to "
            f"{max(len(example.input_ids) for example in examples)} tokens: {type(error).__name__}: {error}"
        ) from error
