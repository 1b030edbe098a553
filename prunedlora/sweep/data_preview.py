"""What a configuration trains and is evaluated on, before anything is spent: figures of its splits, and examples as the
model reads them. No weights are loaded; the splits are tokenised into the files that trials open."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from prunedlora.config.trial import TrialConfig
from prunedlora.registry import lookup
from prunedlora.sweep.findings import warnings_of
from prunedlora.sweep.split_facts import SplitFacts, facts_of, label_counts
from prunedlora.sweep.trained_text import Run, runs_of
from prunedlora.tasks.example import Example
from prunedlora.tasks.task import Task, length_limit
from prunedlora.tasks.tokenised import TokenisedSplit
from prunedlora.training.data import BatchOrder
from prunedlora.training.model import load_tokenizer
from prunedlora.training.positions import position_limit
from prunedlora.trial.assemble import num_steps
from prunedlora.trial.assets import load_task
from prunedlora.trial.base_cache import model_settings
from prunedlora.trial.token_cache import SPLITS, SplitName, tokenised

MOST_STEPS = 200
"""Steps that padding is counted in."""


@dataclass(frozen=True)
class ShownExample:
    """An example as the model reads it."""

    runs: tuple[Run, ...]
    label: str | None
    """The class; None where text is trained."""
    place: str
    asked: tuple[Run, ...] | None
    """What an answer to it is generated from; None where none is generated."""
    is_beginning: bool
    """Whether that is its text up to the first that is trained."""
    target: str | None
    """What the answer is compared with."""


@dataclass(frozen=True)
class Padding:
    share: float
    """Of what goes through the model in training."""
    num_steps: int
    """In which it was counted."""
    batch_size: int
    limit: str
    """What a forward pass takes at most, in words."""


@dataclass(frozen=True)
class DataPreview:
    splits: dict[SplitName, SplitFacts]
    examples: dict[SplitName, tuple[ShownExample, ...]]
    labels: dict[str, dict[SplitName, int]] | None
    """Class → split → examples, most in training first; None without classes."""
    limit: int | None
    """Most tokens of an example."""
    limit_origin: str
    room: int | None
    """Tokens of it that prompts leave for an answer."""
    padding: Padding | None
    """None where nothing is trained."""
    warnings: tuple[str, ...]


def preview(trial: TrialConfig, *, num_examples: int, shown: Collection[str], num_workers: int = 1) -> DataPreview:
    """The figures of all splits, and the first `num_examples` of those of `shown`. What the Hub names is taken as it is
    now. Raises what loading the data and the tokenizer raises, DataError and ModelError among it."""
    splits, task = load_task(trial)
    features = tokenised(task, splits)
    settings = model_settings(trial)
    tokenizer = load_tokenizer(settings)
    own = position_limit(settings, lookup("task", trial.data.task).auto_model)
    limit = length_limit(tokenizer, trial.data.max_length, own)
    examples = {
        name: tuple(_shown(trial, task, tokenizer, getattr(splits, name)[:num_examples], name))
        for name in SPLITS
        if name in shown
    }
    return DataPreview(
        splits={name: facts_of(trial.data, splits, name, features[name], task) for name in SPLITS},
        examples=examples,
        labels=None if task.labels is None else label_counts(splits),
        limit=limit,
        limit_origin=_origin(trial.data.max_length, limit, own),
        room=None if limit is None else trial.evaluation.max_new_tokens,
        padding=_padding(trial, features["train"], num_workers),
        warnings=tuple(dict.fromkeys(warnings_of(trial, splits, task))),
    )


def _origin(asked: int | None, limit: int | None, of_model: int | None) -> str:
    if limit is None:
        return "neither the configuration, the tokenizer nor the model has one"
    if asked is not None:
        return "data.max_length"
    return "the model's positions" if limit == of_model else "the tokenizer's model_max_length"


def _padding(trial: TrialConfig, train: TokenisedSplit, num_workers: int) -> Padding | None:
    training = trial.training
    if training.num_steps == 0:
        return None
    passes = training.micro_batch_size, training.micro_batch_tokens
    order = BatchOrder(train, training.batch_size, *passes, trial.seed)
    steps = min(MOST_STEPS, num_steps(trial, len(train)))
    tokens, positions = np.sum([order.token_counts(step, num_workers) for step in range(steps)], axis=0).tolist()
    examples, most_tokens = order.limits(num_workers)
    limit = f"{most_tokens:,} tokens" if most_tokens is not None else f"{examples:,} examples"
    return Padding(1 - tokens / positions, steps, training.batch_size, limit)


def _shown(
    trial: TrialConfig, task: Task, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], split: SplitName
) -> Iterator[ShownExample]:
    answers = split != "train" and trial.evaluation.max_new_tokens is not None
    for example, features in zip(examples, task.encode(examples, prompts=split != "train"), strict=True):
        is_text = task.labels is None
        asked = tuple(runs_of(features.prompt, [], tokenizer)) if answers else None
        yield ShownExample(
            runs=tuple(runs_of(features.input_ids, features.spans if is_text else [], tokenizer)),
            label=None if is_text else example.target,
            place=example.place,
            asked=asked,
            is_beginning=answers and features.prompt_ids is None,
            target=task.scored(example).target if answers else None,
        )
