"""What a slot loads once and keeps from trial to trial: base model, tokenised data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from prunedlora.adapters.adapted_share import AdaptedShare, adapted_share
from prunedlora.adapters.reach import Reach, find_reach
from prunedlora.adapters.targets import resolve_head, resolve_targets
from prunedlora.config.identity import LocationError, data_contents, model_location
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import SourceConfig
from prunedlora.missing_path import looked_for
from prunedlora.registry import lookup
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Cut, Splits, load_splits
from prunedlora.tasks.task import Features, Task
from prunedlora.training.model import (
    BaseModel,
    ModelError,
    ModelSettings,
    load_base,
    load_tokenizer,
    load_without_weights,
    release_memory,
)
from prunedlora.training.positions import position_limit

PROBE_TOKENS = 8
"""Length of the example that a model's reach is found with."""


@dataclass(frozen=True)
class Skeleton:
    """A base model without its weights, and what the task reaches of it: known before anything is loaded."""

    model: PreTrainedModel
    """On the meta device, never quantised."""
    reach: Reach


@dataclass(frozen=True)
class Assets:
    """Base model and data of a configuration; equal for all trials that differ in neither."""

    base: BaseModel
    skeleton: Skeleton
    task: Task
    train: list[Features]
    validation: list[Features]
    test: list[Features]
    model_facts: dict[str, Any]
    """What was loaded, for the record."""
    data_facts: dict[str, Any]


class AssetCache:
    """Keeps the assets of the last configuration: sweeps rarely vary model or data, and two models may not fit."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._key: str | None = None
        self._labels: tuple[str, ...] | None = None
        self._assets: Assets | None = None
        self._examples: tuple[str, Splits | Exception] | None = None

    def examples(self, trial: TrialConfig) -> Splits:
        """The configuration's examples, which the next `get` does not load again. Raises DataError, and whatever a
        library raises at data that it does not foresee; the next `get` for these data raises the same, and does not
        train on what loads a moment later, which nobody has looked at."""
        data = trial.data.model_dump_json()
        try:
            splits = load_examples_of(trial)
        except Exception as error:
            self._examples = data, error
            raise
        self._examples = data, splits
        return splits

    def get(self, trial: TrialConfig, labels: tuple[str, ...] | None = None) -> Assets:
        """The configuration's assets, loaded anew if the last ones were others or the data's files have changed.
        `labels` and errors as load_assets."""
        data, loaded = self._examples or ("", None)
        self._examples = None
        evaluation = trial.evaluation
        key = json.dumps(
            [
                trial.model.model_dump(),
                trial.data.model_dump(),
                data_contents(trial),  # a file that was written anew is another one
                evaluation.metric,
                evaluation.max_new_tokens,
                evaluation.stop,
                trial.head_modules if trial.model.quantization is not None else None,
            ]
        )
        # Most often the order on record is that of today, and what is loaded serves.
        fits = self._assets is not None and (labels == self._labels or labels == self._assets.task.labels)
        if self._assets is None or key != self._key or not fits:
            self.clear()
            ready = loaded if data == trial.data.model_dump_json() else None
            if isinstance(ready, Exception):
                raise ready
            self._assets = load_assets(trial, self._device, labels, ready)
            self._key, self._labels = key, labels
        return self._assets

    def clear(self) -> None:
        """Lets go of everything; the next trial loads anew."""
        self._assets = self._key = None
        release_memory(self._device)

    def clear_if_adapted(self) -> None:
        """After a failure: lets go of a base model that an adapter could not be taken off from."""
        if self._assets and any(hasattr(module, "lora_A") for module in self._assets.base.model.modules()):
            self.clear()


def load_assets(
    trial: TrialConfig, device: torch.device, labels: tuple[str, ...] | None = None, examples: Splits | None = None
) -> Assets:
    """Loads model and data of a configuration. `labels`: the classes in the order on record, for an adapter that is
    trained already; `examples`: its own, where they are there already. Raises ModelError, DataError, LocationError,
    TargetError."""
    splits, task = load_task(trial, labels, examples)
    skeleton = load_skeleton(trial, splits, task)
    # Before the weights: what is wrong with the data is told sooner.
    train, validation, test = (task.encode(split) for split in (splits.train, splits.validation, splits.test))
    base = load_base_of(trial, task.auto_model, task.model_settings, device)
    return Assets(
        base=base,
        skeleton=skeleton,
        task=task,
        train=train,
        validation=validation,
        test=test,
        model_facts=model_facts(trial, base, task.labels),
        data_facts={
            "fingerprint": splits.fingerprint,
            "num_examples": {"train": len(train), "validation": len(validation), "test": len(test)},
            "num_duplicates_removed": dict(splits.num_duplicates_removed),
            "num_siblings_removed": dict(splits.num_siblings_removed),
            "num_groups": splits.num_groups,
            "num_truncated": {
                name: sum(feature.truncated for feature in split)
                for name, split in (("train", train), ("validation", validation), ("test", test))
            },
        },
    )


def load_skeleton(trial: TrialConfig, splits: Splits, task: Task) -> Skeleton:
    """The configuration's model without weights. Its reach is found with the last tokens of the first validation
    example, so that it is the same for the driver and every worker. Raises ModelError, LocationError, DataError."""
    model = load_without_weights(model_settings(trial), task.auto_model, task.model_settings)
    batch = task.collate(task.encode(splits.validation[:1]))
    tokens = batch["input_ids"][:, batch["attention_mask"][0].bool()][:, -PROBE_TOKENS:]
    return Skeleton(model, find_reach(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}))


def share_of(trial: TrialConfig, skeleton: Skeleton) -> AdaptedShare | None:
    """What part of the base model the configuration adapts; None for full fine-tuning. Raises TargetError."""
    if trial.adapter is None:
        return None
    heads = resolve_head(skeleton.model, trial.head_modules)
    adapter, reach = trial.adapter, skeleton.reach
    targets = resolve_targets(skeleton.model, adapter.target_modules, heads, adapter.layers_to_transform, reach.modules)
    return adapted_share(skeleton.model, heads, targets, reach)


def model_facts(trial: TrialConfig, base: BaseModel, labels: Sequence[str] | None = None) -> dict[str, Any]:
    """What was loaded as the configuration's model, before anything is attached to it."""
    return {
        "name": trial.model.name,
        "revision": getattr(base.model.config, "_commit_hash", None) or trial.model.revision,
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


def load_examples_of(trial: TrialConfig) -> Splits:
    """The examples of a configuration, as texts. Raises DataError."""
    data = trial.data
    return load_splits(
        source_of(data.train),
        None if data.validation is None else source_of(data.validation),
        None if data.test is None else source_of(data.test),
        num_validation=data.num_validation,
        num_test=data.num_test,
        split_seed=data.split_seed,
        cut=_cut(trial),
    )


def load_task(
    trial: TrialConfig, labels: tuple[str, ...] | None = None, examples: Splits | None = None
) -> tuple[Splits, Task]:
    """Examples and task of a configuration, no model weights; `labels` and `examples` as for `load_assets`. Raises
    DataError, ModelError, LocationError."""
    data, settings = trial.data, model_settings(trial)
    splits = load_examples_of(trial) if examples is None else examples
    kind = lookup("task", data.task)
    task: Task = kind.from_splits(
        splits,
        load_tokenizer(settings),
        metric=trial.evaluation.metric,
        max_length=data.max_length,
        model_limit=position_limit(settings, kind.auto_model),
        max_new_tokens=trial.evaluation.max_new_tokens,
        stop=trial.evaluation.stop or (),
        labels=labels,
    )
    return splits, task


def _cut(trial: TrialConfig) -> Cut:
    if not lookup("task", trial.data.task).has_classes:
        return "random"
    ways: dict[bool | None, Cut] = {True: "stratified", False: "random", None: "complete"}
    return ways[trial.data.stratify]


def model_settings(trial: TrialConfig) -> ModelSettings:
    """How to load the configuration's model. Raises LocationError when it is not there."""
    fields = trial.model.model_dump(exclude={"gradient_checkpointing"})  # a switch: a trial sets it itself
    location, file = model_location(fields.pop("name")), trial.model.gguf_file
    if file is not None and Path(location).is_dir() and not Path(location, file).is_file():
        raise LocationError(f"model.gguf_file {file!r} does not exist ({looked_for(str(Path(location, file)))})")
    return ModelSettings(location=location, **fields)


def source_of(config: SourceConfig) -> Source:
    """Where the examples of a split come from, as the tasks take it."""
    return Source(**config.model_dump())
