"""Chat settings that would change nothing are refused before any data is read."""

import inspect
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from prunedlora.config.data_section import DataConfig
from prunedlora.tasks.chat.option_names import RESERVED

TEMPLATES = {"name": "d.jsonl", "prompt": "{q}", "target": "{a}"}
ROWS = {"name": "d.jsonl"}
TEXT = {"name": "d.jsonl", "format": "text"}


def data(train: Any, task: str = "generation", **settings: Any) -> DataConfig:
    return DataConfig.model_validate({"task": task, "train": train, "num_validation": 2, "num_test": 2, **settings})


@pytest.mark.parametrize(
    ("train", "settings", "message"),
    [
        (
            TEMPLATES, {"task": "text_classification", "chat_template": "none"},
            "chat_template has no effect on task 'text_classification', which reads no conversations; remove it",
        ),
        (
            ROWS, {"chat_template": "none", "train_on": "last", "chat_template_kwargs": {"x": 1}},
            "chat_template_kwargs, train_on has no effect beside chat_template 'none'; remove it",
        ),
        ([TEXT, TEXT], {"train_on": "all"}, "train_on has no effect on rows of input_output and text, which are not"),
        (TEXT, {"chat_template": "tokenizer"}, "chat_template has no effect on rows of input_output and text"),
        (
            TEMPLATES | {"system": "Be brief."}, {"chat_template": "none"},
            "system of source 'd.jsonl' has no effect on plain text; set chat_template to tokenizer, or write it into",
        ),
        (
            TEMPLATES, {"train_on": "all"},
            "train_on has no effect on prompts and targets that are plain text; set chat_template to tokenizer, or "
            "remove it",
        ),
        (
            TEMPLATES, {"chat_template": "tokenizer", "train_on": "completion"},
            "train_on 'completion' is for prompt_completion rows; give assistant, last or all",
        ),
    ],
)  # fmt: skip
def test_settings_without_effect(train: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        data(train, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["tokenize", "return_dict", "max_length", "conversation", "tools", "chat_template"])
def test_options_that_transformers_takes_for_itself_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"chat_template_kwargs cannot set '{name}', which every chat template"):
        data(ROWS, chat_template_kwargs={name: 1})


@pytest.mark.parametrize("name", ["enable-thinking", "class", "2nd", ""])
def test_options_that_no_template_can_read_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"cannot set '{name}': a template reads names of letters, digits and"):
        data(ROWS, chat_template_kwargs={name: 1})


def test_every_argument_of_apply_chat_template_is_known() -> None:
    """But `documents`, which it hands to the template."""
    arguments = set(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters)
    assert arguments - set(RESERVED) == {"documents", "kwargs"}


def test_settings_with_an_effect() -> None:
    everything = {"chat_template": "t.jinja", "train_on": "completion", "chat_template_kwargs": {"x": 1}}
    assert data([ROWS, TEXT], **everything).train_on == "completion"
    assert data(TEMPLATES, chat_template="tokenizer", train_on="last").train_on == "last"
    assert data(TEMPLATES | {"system": "Be brief."}, chat_template="tokenizer").all_sources[0].system == "Be brief."
    assert data(TEMPLATES, chat_template="none").chat_template == "none"
