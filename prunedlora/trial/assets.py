"""What a slot loads once and keeps from trial to trial: base model, tokenised data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from prunedlora.adapters.reach import Reach, find_reach
from prunedlora.config.data_section import DataConfig
from prunedlora.config.identity import data_contents, metric_identity
from prunedlora.config.trial import TrialConfig
from prunedlora.registry import lookup
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Cut, Splits, load_splits
from prunedlora.tasks.task import ChatSettings, Features, Task
from prunedlora.tasks.tokenised import TokenisedSplit
from prunedlora.training.model import (
    BaseModel,
    load_tokenizer,
    load_without_weights,
)
from prunedlora.training.positions import position_limit
from prunedlora.trial.base_cache import BaseCache, base_key, model_facts, model_settings
from prunedlora.trial.freed_memory import return_freed_memory
from prunedlora.trial.token_cache import SplitName, tokenised

PROBE_TOKENS = 8
"""Length of the example that a model's reach is found with."""
MOST_DATA = 4
"""Data that a slot keeps; each holds the texts of its validation and test examples."""


@dataclass(frozen=True)
class Skeleton:
    """A base model without its weights, and what the task reaches of it: known before anything is loaded."""

    model: PreTrainedModel
    """On the meta device, never quantised."""
    reach: Reach


@dataclass(frozen=True)
class TaskData:
    """Task and tokenised examples of a configuration."""

    task: Task
    features: Mapping[SplitName, TokenisedSplit]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Assets:
    """Base model and data of a configuration; equal for all trials that differ in neither."""

    base: BaseModel
    skeleton: Skeleton
    task: Task
    train: Sequence[Features]
    """Tokens alone, no texts."""
    validation: Sequence[Features]
    test: Sequence[Features]
    model_facts: dict[str, Any]
    """What was loaded, for the record."""
    data_facts: dict[str, Any]


@dataclass(frozen=True)
class _Kept:
    key: str
    labels: tuple[str, ...] | None
    """As they were asked for."""
    data: TaskData

    def serves(self, key: str, labels: tuple[str, ...] | None) -> bool:
        """Most often the order on record is that of today, and what is loaded serves."""
        return key == self.key and (labels == self.labels or labels == self.data.task.labels)


class AssetCache:
    """Keeps the last base model and, apart from it, the last few data: those are small, as their tokens lie in files,
    and a space over what they alone depend on leaves the model where it is."""

    def __init__(self, device: torch.device) -> None:
        self._base = BaseCache(device)
        self._skeleton: tuple[str, Skeleton] | None = None
        self._kept: list[_Kept] = []
        self._assets: tuple[tuple[Any, ...], Assets] | None = None
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
        """The configuration's assets: of base model and data what is there already, and the rest loaded; data anew
        where their files have changed. `labels` and errors as load_assets."""
        data = self._data_of(trial, labels)  # before the weights: what is wrong with the data is told sooner
        skeleton = self._skeleton_of(trial, data)
        if not self._base.has(trial, data.task):
            self._assets = None  # holds the model that is about to go
        base = self._base.get(trial, data.task)
        parts = base, skeleton, data
        if self._assets is None or any(part is not other for part, other in zip(parts, self._assets[0], strict=True)):
            self._assets = parts, _assembled(trial, base, skeleton, data)
        return self._assets[1]

    def clear_if_adapted(self) -> None:
        """After a failure: lets go of a base model that an adapter could not be taken off from."""
        self._assets = None
        self._base.clear_if_adapted()

    def _data_of(self, trial: TrialConfig, labels: tuple[str, ...] | None) -> TaskData:
        key = _data_key(trial)
        found = next((kept for kept in self._kept if kept.serves(key, labels)), None)
        if found is None:
            found = _Kept(key, labels, load_data(trial, labels, self._ready(trial)))
            return_freed_memory()  # of the texts
        self._examples = None
        self._kept = [*(kept for kept in self._kept if kept is not found), found][-MOST_DATA:]
        return found.data

    def _ready(self, trial: TrialConfig) -> Splits | None:
        """What `examples` loaded or met last, if it was for these data; no longer held here."""
        data, examples = self._examples or ("", None)
        self._examples = None
        if data != trial.data.model_dump_json():
            return None
        if isinstance(examples, Exception):
            raise examples
        return examples

    def _skeleton_of(self, trial: TrialConfig, data: TaskData) -> Skeleton:
        probe = probe_tokens(data.task, data.features["validation"])
        key = json.dumps([base_key(trial, data.task), probe.tolist()])
        if self._skeleton is None or key != self._skeleton[0]:
            self._skeleton = key, _skeleton(trial, data.task, probe)
        return self._skeleton[1]


def _data_key(trial: TrialConfig) -> str:
    """All that decides task and examples: data and what stands in their files, the tokenizer and the model's own limit,
    how answers are scored."""
    model, evaluation = trial.model, trial.evaluation
    return json.dumps(
        [
            [model.name, model.revision, model.gguf_file, model.trust_remote_code, model.config_overrides],
            trial.data.model_dump(),
            data_contents(trial),  # a file that was written anew is another one
            [evaluation.task_metric, metric_identity(trial), evaluation.max_new_tokens, evaluation.stop],
        ]
    )


def load_assets(trial: TrialConfig, device: torch.device) -> Assets:
    """Loads model and data of a configuration. Raises ModelError, DataError, LocationError, TargetError, and OSError of
    a node that cannot hold the tokenised data."""
    return AssetCache(device).get(trial)


def load_data(trial: TrialConfig, labels: tuple[str, ...] | None = None, examples: Splits | None = None) -> TaskData:
    """Task and tokenised examples of a configuration. `labels`: the classes in the order that an adapter was trained
    in, which is there already (None: that of the configuration); `examples`: its own, where they are there already.
    Errors as load_assets."""
    splits, task = load_task(trial, labels, examples)
    features = tokenised(task, splits)
    facts = {
        "fingerprint": splits.fingerprint,
        "num_examples": {name: len(split) for name, split in features.items()},
        "num_duplicates_removed": dict(splits.num_duplicates_removed),
        "num_siblings_removed": dict(splits.num_siblings_removed),
        "num_groups": splits.num_groups,
        "train_sources": [vars(count) for count in splits.train_sources],
        "num_truncated": {name: split.num_truncated for name, split in features.items()},
        "num_at_turns": {name: split.num_at_turns for name, split in features.items()},
    }
    if (metric := metric_identity(trial)) is not None:
        facts["metric"] = metric
    return TaskData(task, features, facts | task.facts)


def _assembled(trial: TrialConfig, base: BaseModel, skeleton: Skeleton, data: TaskData) -> Assets:
    return Assets(
        base=base,
        skeleton=skeleton,
        task=data.task,
        train=data.features["train"],
        validation=data.features["validation"],
        test=data.features["test"],
        model_facts=model_facts(trial, base, data.task.labels) | {"ends": data.task.answer_ends(base.model)},
        data_facts=data.facts,
    )


def load_skeleton(trial: TrialConfig, splits: Splits, task: Task) -> Skeleton:
    """The configuration's model without weights. Its reach is found with the last tokens of the first validation
    example, so that it is the same for the driver and every worker. Raises ModelError, LocationError, DataError."""
    return _skeleton(trial, task, probe_tokens(task, task.encode(splits.validation[:1])))


def probe_tokens(task: Task, validation: Sequence[Features]) -> Tensor:
    """The last tokens (1, PROBE_TOKENS or fewer) of the first example."""
    batch = task.collate(validation[:1])
    return batch["input_ids"][:, batch["attention_mask"][0].bool()][:, -PROBE_TOKENS:]


def _skeleton(trial: TrialConfig, task: Task, tokens: Tensor) -> Skeleton:
    model = load_without_weights(model_settings(trial), task.auto_model, task.model_settings)
    return Skeleton(model, find_reach(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}))


def load_examples_of(trial: TrialConfig) -> Splits:
    """The examples of a configuration, as texts. Raises DataError."""
    data = trial.data
    return load_splits(
        sources_of(data, "train"),
        None if data.validation is None else sources_of(data, "validation"),
        None if data.test is None else sources_of(data, "test"),
        num_validation=data.num_validation,
        num_test=data.num_test,
        split_seed=data.split_seed,
        cut=_cut(trial),
    )


def load_task(
    trial: TrialConfig, labels: tuple[str, ...] | None = None, examples: Splits | None = None
) -> tuple[Splits, Task]:
    """Examples and task of a configuration, no model weights; `labels` and `examples` as for `load_data`. Raises
    DataError, ModelError, LocationError."""
    data, settings = trial.data, model_settings(trial)
    splits = load_examples_of(trial) if examples is None else examples
    kind = lookup("task", data.task)
    task: Task = kind.from_splits(
        splits,
        load_tokenizer(settings),
        metric=trial.evaluation.task_metric,
        max_length=data.max_length,
        model_limit=position_limit(settings, kind.auto_model),
        max_new_tokens=trial.evaluation.max_new_tokens,
        stop=trial.evaluation.stop or (),
        labels=trial.data.labels if labels is None else labels,
        chat=chat_of(data),
    )
    return splits, task


def _cut(trial: TrialConfig) -> Cut:
    if not lookup("task", trial.data.task).has_classes:
        return "random"
    ways: dict[bool | None, Cut] = {True: "stratified", False: "random", None: "complete"}
    return ways[trial.data.stratify]


def sources_of(data: DataConfig, split: str) -> list[Source]:
    """Where the examples of a split come from, as the tasks take it."""
    return [Source(**source.model_dump()) for source in data.sources(split)]


def chat_of(data: DataConfig) -> ChatSettings:
    """How conversations are written out, as the tasks take it."""
    return ChatSettings(data.chat_template, data.chat_template_kwargs, data.train_on)
