"""What can be found out about a sweep before anything starts: that its models and data are there and fit together."""

import json
from collections.abc import Iterator

import torch
import transformers
from torch import nn

from prunedlora.adapters.targets import resolve_head, resolve_targets
from prunedlora.config.identity import trial_key
from prunedlora.config.sweep import SweepConfig, corners, trial_with
from prunedlora.config.trial import TrialConfig
from prunedlora.search.assets import load_task, model_settings
from prunedlora.training.data import BatchOrder
from prunedlora.training.model import load_model_config


class PreflightError(ValueError):
    """A sweep whose trials could not run; the message names the setting."""


def preflight(config: SweepConfig) -> None:
    """Loads the data and builds every model of the sweep without its weights.

    Raises:
        LocationError, DataError, ModelError, TargetError: a model, dataset, column, label, length or module that is
            not as the configuration says.
        PreflightError: batches smaller than the number of workers, or a length in epochs that is too short for the
            pruning schedule.
    """
    loaded: dict[str, tuple[int, nn.Module]] = {}
    for trial in _distinct(config):
        trial_key(trial)
        identity = json.dumps([trial.data.model_dump(), trial.model.model_dump(), trial.evaluation.model_dump()])
        if identity not in loaded:
            loaded[identity] = _load(trial)
        num_examples, model = loaded[identity]
        heads = resolve_head(model, trial.adapter.head_modules)
        resolve_targets(model, trial.adapter.target_modules, heads, trial.adapter.layers_to_transform)
        _check_lengths(trial, num_examples, config.resources.num_workers)


def _distinct(config: SweepConfig) -> Iterator[TrialConfig]:
    """The base and every corner of the space, one for each different model, data, targets and length."""
    seen = set()
    for values in [{}, *config.baselines, *corners(config.space)]:
        trial = trial_with(config.trial, values)
        schedule = trial.pruning.schedule if trial.pruning else None
        fields = [trial.model, trial.data, trial.training, schedule]
        names = [trial.adapter.model_dump(exclude={"initial_rank", "alpha", "dropout"}), trial.evaluation.metric]
        identity = json.dumps([*(field.model_dump() if field else None for field in fields), *names])
        if identity not in seen:
            seen.add(identity)
            yield trial


def _load(trial: TrialConfig) -> tuple[int, nn.Module]:
    """The number of training examples, and the model without its weights."""
    splits, task = load_task(trial)
    settings = model_settings(trial)
    model_config = load_model_config(settings)
    for name, value in task.model_settings.items():
        setattr(model_config, name, value)
    with torch.device("meta"):
        options = {"trust_remote_code": True} if settings.trust_remote_code else {}
        model = getattr(transformers, task.auto_model).from_config(model_config, **options)
    return len(splits.train), model


def _check_lengths(trial: TrialConfig, num_examples: int, num_workers: int) -> None:
    training = trial.training
    if training.batch_size < num_workers:
        raise PreflightError(
            f"training.batch_size {training.batch_size} is below resources.num_workers {num_workers}: "
            "every worker needs an example"
        )
    if training.num_epochs is None or trial.pruning is None:
        return
    order = BatchOrder(range(num_examples), training.batch_size, None, trial.seed)
    num_steps, schedule = order.num_steps(training.num_epochs), trial.pruning.schedule
    end = schedule.begin if schedule.end is None else schedule.end
    last_event = num_steps // schedule.every_steps * schedule.every_steps
    if last_event < end * num_steps:
        raise PreflightError(
            f"pruning.schedule: num_epochs {training.num_epochs:g} gives {num_steps} steps, the last event (step "
            f"{last_event}, every {schedule.every_steps}) comes before its end (progress {end:g})"
        )
