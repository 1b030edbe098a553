"""The base model that a slot keeps from trial to trial."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prunedlora.adapters.targets import resolve_head
from prunedlora.config.identity import LocationError, model_location
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import ModelConfig
from prunedlora.missing_path import looked_for
from prunedlora.tasks.task import Task
from prunedlora.training.model import (
    BaseModel,
    ModelError,
    ModelSettings,
    load_base,
    load_without_weights,
    release_memory,
)

SWITCHES = {"gradient_checkpointing"}
"""Fields of the model section that a trial sets on the loaded model itself."""


class BaseCache:
    """Keeps the last base model. One: two may not fit on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._key: str | None = None
        self._base: BaseModel | None = None

    def get(self, trial: TrialConfig, task: Task) -> BaseModel:
        """The configuration's base model, loaded anew where the last one was another, which is let go first. Errors as
        load_base_of."""
        if self._base is None or not self.has(trial, task):
            self.clear()
            self._base = load_base_of(trial, task.auto_model, task.model_settings, self._device)
            self._key = base_key(trial, task)
        return self._base

    def has(self, trial: TrialConfig, task: Task) -> bool:
        """Whether the configuration's base model is there."""
        return self._key == base_key(trial, task)

    def clear(self) -> None:
        """Lets go of the model."""
        self._base = self._key = None
        release_memory(self._device)

    def clear_if_adapted(self) -> None:
        """After a failure: lets go of a model that an adapter could not be taken off from."""
        if self._base is not None and any(hasattr(module, "lora_A") for module in self._base.model.modules()):
            self.clear()


def base_key(trial: TrialConfig, task: Task) -> str:
    """All that decides what is loaded: the model's settings but switches, the task's class and settings of it, and
    where weights are quantised, which are not."""
    settings = trial.model.model_dump(exclude=SWITCHES)
    whole = trial.head_modules if trial.model.quantization is not None else None
    return json.dumps([settings, task.auto_model, task.model_settings, whole])


def model_settings(trial: TrialConfig) -> ModelSettings:
    """How to load the configuration's model. Raises LocationError when it is not there."""
    return settings_of(trial.model)


def settings_of(model: ModelConfig) -> ModelSettings:
    """The same for a model of no trial yet."""
    fields = model.model_dump(exclude=SWITCHES)
    location, file = model_location(fields.pop("name")), model.gguf_file
    if file is not None and Path(location).is_dir() and not Path(location, file).is_file():
        raise LocationError(f"model.gguf_file {file!r} does not exist ({looked_for(str(Path(location, file)))})")
    return ModelSettings(location=location, **fields)


def model_facts(trial: TrialConfig, base: BaseModel, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """What was loaded as the configuration's model, before anything is attached to it."""
    return {
        "name": trial.model.name,
        "revision": getattr(base.model.config, "_commit_hash", None) or trial.model.revision,
        "model_type": base.model.config.model_type,
        "dtype": str(base.dtype).removeprefix("torch."),
        "num_params": sum(parameter.numel() for parameter in base.model.parameters()),
        "labels": list(labels) if labels is not None else None,
        "pad_token_id": getattr(base.model.config, "pad_token_id", None),
    }


def load_base_of(
    trial: TrialConfig, auto_model: str, task_settings: Mapping[str, Any], device: torch.device
) -> BaseModel:
    """The configuration's base model, its weights quantised where asked for, all but what trains whole and the output
    embedding. Raises ModelError, LocationError, TargetError."""
    settings = model_settings(trial)
    unquantized: list[str] = []
    if settings.quantization is not None:
        if device.type != "cuda":  # where bitsandbytes has kernels for CPUs, they repack the shared base's weights
            raise ModelError(f"model.quantization {settings.quantization!r} needs CUDA; this worker has {device.type}")
        empty = load_without_weights(settings, auto_model, task_settings)
        output = empty.get_output_embeddings()
        unquantized = [name for name, module in empty.named_modules() if module is output]
        unquantized += resolve_head(empty, trial.head_modules)
    return load_base(settings, auto_model, task_settings, device, unquantized)
