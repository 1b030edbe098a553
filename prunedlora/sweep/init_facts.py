"""What a sweep of some data goes by: how many examples, how long, of which classes; measured by a model's tokenizer."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunedlora.config.data_section import DataConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.sweep.init_columns import Recognised
from prunedlora.sweep.init_error import InitError
from prunedlora.sweep.init_model import Found
from prunedlora.sweep.init_sources import Rows
from prunedlora.sweep.shrink_base import CLASSIFICATION
from prunedlora.sweep.shrink_data import training_examples
from prunedlora.tasks.example import Example
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Features
from prunedlora.trial.assets import load_examples_of, load_task

MOST_MEASURED = 2000
"""Examples that are tokenised."""
LEAST_PROMPTS = 50
"""Fewer leave so few to judge by that no adapter could be told from another."""
CUT_SHARE, MOST_VALIDATION, MOST_TEST = 5, 500, 1000
"""Validation and test, where they are cut: each one in CUT_SHARE of the distinct prompts, and no more than MOST_…"""
FINAL = re.compile(r"####[ \t]*[-+$]?[0-9]")
"""How answers end that state a final number as GSM8K does."""
MOSTLY = 0.95


@dataclass(frozen=True)
class Lengths:
    """Of some texts, in tokens."""

    median: int
    p99: int
    longest: int


@dataclass(frozen=True)
class DataFacts:
    section: Mapping[str, Any]
    """Of the trial, without a limit to lengths."""
    recognised: Recognised
    num_train: int
    num_validation: int
    num_test: int
    num_measured: int
    """Examples of train and validation that lengths are of."""
    lengths: Lengths
    """Whole, as the model reads them."""
    answers: Lengths | None
    """The answer that is judged (of a conversation the last); None of classes."""
    asked: Lengths | None
    """What such an answer is written after."""
    classes: Mapping[str, int] | None
    """Class → training examples; None without classes."""
    has_prompts: bool
    """Whether there is something to answer: plain texts have none."""
    has_final_numbers: bool
    """Whether answers state a number behind ####."""

    @property
    def task(self) -> str:
        return self.recognised.task


def data_section(rows: Rows, recognised: Recognised, found: Found, chat_template: str | None) -> dict[str, Any]:
    """The data section of a trial; how many examples validation and test get, where they are cut, is decided by how
    many there are.

    Raises DataError as loading them does; InitError for too few, for conversations without a chat template.
    """
    section: dict[str, Any] = {"task": recognised.task}
    section |= {part: {**source, **recognised.fields} for part, source in rows.sources.items()}
    if chat_template is not None:
        section["chat_template"] = chat_template
    elif recognised.is_asked and found.has_chat_template:
        section["chat_template"] = "tokenizer"
    cut = [part for part in ("validation", "test") if part not in rows.sources]
    draft = DataConfig.model_validate(section | {f"num_{part}": 1 for part in cut})
    examples = training_examples(draft)
    if chat_template is None and not found.has_chat_template and any(one.conversation for one in examples):
        _check_plain(examples, found)
        section["chat_template"] = "none"
    units = len({example.unit for example in examples})
    if units < LEAST_PROMPTS:
        raise InitError(
            f"{draft.train_names} has {units} distinct prompts, too few to search with: at least {LEAST_PROMPTS} are "
            "needed, of which most are trained on"
        )
    least = len({example.target for example in examples}) if recognised.task == CLASSIFICATION else 1
    for part, most in (("validation", MOST_VALIDATION), ("test", MOST_TEST)):
        if part in cut:
            section[f"num_{part}"] = max(min(units // CUT_SHARE, most), least)
    if recognised.task == CLASSIFICATION and cut:
        section["stratify"] = True
    return section


def data_facts(section: Mapping[str, Any], recognised: Recognised, found: Found) -> DataFacts:
    """What the data are like, as the model reads them. Raises DataError and ModelError where they do not go together,
    with what would do."""
    trial = _draft(section, found)
    splits = load_examples_of(trial)
    _, task = load_task(trial, examples=splits)
    some = [*splits.train[:MOST_MEASURED], *splits.validation[:MOST_MEASURED]][:MOST_MEASURED]
    features = task.encode(some)
    has_classes = task.labels is not None
    answers = [] if has_classes else [_last(each) for each in features]
    return DataFacts(
        section=section,
        recognised=recognised,
        num_train=len(splits.train),
        num_validation=len(splits.validation),
        num_test=len(splits.test),
        num_measured=len(some),
        lengths=_lengths([len(each.input_ids) for each in features]),
        answers=None if has_classes else _lengths(answers),
        asked=None if has_classes else _lengths([len(each.prompt) for each in features]),
        classes=Counter(example.target for example in splits.train) if has_classes else None,
        has_prompts=has_classes or not _is_text(splits),
        has_final_numbers=not has_classes and _share(FINAL, splits.train[:MOST_MEASURED]) >= MOSTLY,
    )


def _draft(section: Mapping[str, Any], found: Found) -> TrialConfig:
    """A trial with these data whose other settings say nothing."""
    heads = ["classifier"] if section["task"] == CLASSIFICATION else []
    tree: dict[str, Any] = {
        "model": dict(found.section),
        "data": dict(section),
        "adapter": {"method": "lora", "initial_rank": 1, "alpha": 1, "head_modules": heads},
        "optimizer": {"learning_rate": 1.0} | ({"head_learning_rate": 1.0} if heads else {}),
        "training": {"num_steps": 1, "batch_size": 1},
        "evaluation": {"metric": "accuracy" if heads else "loss"},
    }
    return TrialConfig.model_validate(tree)


def _check_plain(examples: Sequence[Example], found: Found) -> None:
    """Raises InitError for conversations that plain text cannot hold: who says what would be lost."""
    for example in examples:
        talk = example.conversation
        if talk is not None and (talk.tools or sum(message["role"] == "assistant" for message in talk.messages) > 1):
            raise InitError(
                f"model {found.section['name']!r} has no chat template, and {example.place} is a conversation of "
                "several turns or with tools: take a model that is made for chats (its name often ends in Instruct "
                "or -it), or give --chat-template a jinja file"
            )


def _is_text(splits: Splits) -> bool:
    return any(example.segments is not None and not example.prompt for example in splits.validation)


def _share(pattern: re.Pattern[str], examples: Sequence[Example]) -> float:
    return sum(pattern.search(example.target) is not None for example in examples) / len(examples)


def _last(features: Features) -> int:
    """Tokens of the answer that is trained last."""
    begin, end = features.spans[-1]
    return end - begin


def _lengths(counts: Sequence[int]) -> Lengths:
    median, p99, longest = np.quantile(counts, [0.5, 0.99, 1.0], method="inverted_cdf").tolist()
    return Lengths(int(median), int(p99), int(longest))
