from collections.abc import Callable
from typing import Any, get_args

import pytest

from prunedlora.config.source_section import RowFormat
from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.known_formats import ROW_FORMATS, possible_columns, row_reader
from prunedlora.tasks.rows.row import Names

Read = Callable[..., Example]
Refusal = Callable[..., str]


def known(*columns: str, fields: dict[str, str] | None = None) -> str:
    return row_reader(None, columns, Names(fields or {}), None).format.name


def test_the_configuration_names_the_same_formats() -> None:
    assert set(get_args(RowFormat)) == set(ROW_FORMATS)


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (("messages", "tools", "id"), "messages"),
        (("prompt", "prompt_id", "messages"), "messages"),
        (("conversations", "system"), "sharegpt"),
        (("id", "prompt", "completion"), "prompt_completion"),
        (("instruction", "input", "output"), "alpaca"),
        (("output", "instruction"), "alpaca"),
        (("segments",), "input_output"),
        (("url", "text"), "text"),
        (("instruction", "input", "output", "text"), "alpaca"),
        (("messages", "text"), "messages"),
        (("prompt", "completion", "text"), "prompt_completion"),
    ],
)
def test_a_format_is_known_by_its_columns(columns: tuple[str, ...], name: str) -> None:
    assert known(*columns) == name


def test_names_of_ones_own_decide_as_well() -> None:
    assert known("dialogue", fields={"messages": "dialogue"}) == "messages"
    assert known("messages", "text", fields={"role": "speaker", "from": "by"}) == "messages"
    assert known("question", "answer", "text", fields={"prompt": "question", "completion": "answer"}) == (
        "prompt_completion"
    )


def test_only_the_columns_of_the_format_are_taken() -> None:
    names = Names({"messages": "dialogue"})
    assert row_reader(None, ("id", "tools", "dialogue"), names, None).columns == ["dialogue", "tools"]
    assert {"dialogue", "conversations", "history", "text"} <= set(possible_columns(names))
    assert "messages" not in possible_columns(names)


DPO = "TRL's DPOTrainer does, and PrunedLoraCallback works in it"


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            ("messages", "instruction", "output"),
            {},
            "the columns (messages, instruction, output) fit 2 formats: messages, alpaca; say which: format: messages "
            "or format: alpaca",
        ),
        (
            ("messages", "prompt", "completion"),
            {},
            "fit 2 formats: messages, prompt_completion; say which: format: messages or format: prompt_completion",
        ),
        (
            ("question", "answer"),
            {},
            "the columns (question, answer) fit no format; known by their columns are: messages (messages); sharegpt "
            "(conversations); prompt_completion (prompt, completion); alpaca (instruction, output); input_output "
            "(segments); text (text). Say what the file calls them as fields, or give prompt and target as templates",
        ),
        (("a;b",), {}, "fit no format.* as templates (one column: if ';' parts the cells, say it as delimiter)"),
        (
            ("chosen", "rejected"),
            {},
            f"columns chosen, rejected are preferences, which sweeps do not train on; {DPO}",
        ),
        (("prompt", "chosen", "rejected"), {}, f"columns chosen, rejected are preferences, .*{DPO}"),
        (
            ("prompt", "chosen", "rejected", "messages"),
            {},
            f"{DPO}; to train on the answers alone, say format: messages",
        ),
        (
            ("prompt", "completion", "label"),
            {},
            f"columns prompt, completion, label are preferences, which sweeps do not train on; {DPO}; to train on the "
            "answers alone, say format: prompt_completion",
        ),
        (
            ("messages",),
            {"format": "alpaca"},
            "format 'alpaca' needs column instruction, output, which is not there; the columns are: messages (fields",
        ),
        (
            ("messages",),
            {"fields": {"mesages": "messages"}},
            "fields: no format has 'mesages'; there are: messages, system, tools, chat_template_kwargs, role, ",
        ),
        (
            ("messages",),
            {"fields": {"history": "h"}, "format": "messages"},
            "fields: format 'messages' has no 'history'; it has: messages, system, tools, chat_template_kwargs, role, "
            "content, from, value",
        ),
        (
            ("messages", "id"),
            {"fields": {"tools": "functions"}},
            "format 'messages' needs column functions, which is not there; the columns are: messages, id (fields: ",
        ),
        (
            ("text",),
            {"system": "Be brief."},
            "system has no effect on rows of format 'text', which are no conversations",
        ),
        (("segments",), {"system": "Be brief."}, "system has no effect on rows of format 'input_output', which are no"),
        (
            ("instruction", "output"),
            {"roles": {"kid": "user"}},
            "roles has no effect on rows of format 'alpaca', whose texts say no roles",
        ),
    ],
)
def test_columns_that_do_not_decide(
    refusal: Refusal, columns: tuple[str, ...], settings: dict[str, Any], message: str
) -> None:
    found = refusal(dict.fromkeys(columns, "x"), **settings)
    assert found.startswith("dataset 'rows.jsonl': ")
    for part in message.split(".*"):
        assert part in found


def test_a_named_format_says_what_of_several_is_meant(read: Read) -> None:
    row = {"prompt": "a", "completion": "b", "label": True, "text": "a b", "chosen": "c", "rejected": "d"}
    assert read(row, format="prompt_completion") == Example("a", "b")
    assert read(row, format="text").target == "a b"
