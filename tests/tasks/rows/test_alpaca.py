import json
from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.tasks.example import Conversation, Example

Read = Callable[..., Example]
Refusal = Callable[..., str]

ROW = {"instruction": "Add.", "output": "4"}


def turns(*texts: str) -> Conversation:
    return Conversation(tuple({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)))


@pytest.mark.parametrize("nothing", [{}, {"input": None}, {"input": ""}, {"system": None, "history": None}])
def test_without_an_input_the_user_says_the_instruction(read: Read, nothing: dict[str, Any]) -> None:
    example = read(ROW | nothing)
    assert example.conversation == turns("Add.", "4")
    assert example.target == "4"


def test_the_input_stands_in_the_next_line(read: Read) -> None:
    assert read(ROW | {"input": "2 + 2"}).conversation == turns("Add.\n2 + 2", "4")
    assert read(ROW | {"input": 22, "output": 4.50}).conversation == turns("Add.\n22", "4.5")


def test_system_prompt_and_earlier_turns(read: Read) -> None:
    history = [["Hello", "Hi"], ["Ready?", "Yes"]]
    for given in (history, json.dumps(history)):
        example = read(ROW | {"system": "Be brief.", "history": given}, system="Be long.")
        earlier = turns("Hello", "Hi", "Ready?", "Yes", "Add.", "4").messages
        assert example.conversation == Conversation(({"role": "system", "content": "Be brief."}, *earlier))
    assert read(ROW | {"history": []}, system="Be brief.").conversation == Conversation(
        ({"role": "system", "content": "Be brief."}, *turns("Add.", "4").messages)
    )


def test_names_of_ones_own(read: Read) -> None:
    fields = {"instruction": "task", "input": "given", "output": "answer"}
    assert read({"task": "Add.", "given": "2 + 2", "answer": "4"}, fields=fields).conversation == turns(
        "Add.\n2 + 2", "4"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"instruction": ""}, "'instruction': is an empty text"),
        (ROW | {"instruction": None}, "'instruction' has no value"),
        (ROW | {"output": " "}, "'output': is an empty text"),
        (ROW | {"input": ["x"]}, "'input' holds a list; a text is made of text and numbers, dates and times"),
        (ROW | {"history": "Hello"}, "'history': is a text and no JSON (Expecting value: line 1 column 1 (char 0))"),
        (ROW | {"history": [["a", "b"], "c"]}, "'history', turn 1: is a text; write the earlier turns as [['what the"),
        (ROW | {"history": [["a"]]}, "'history', turn 0: is a list of 1; write the earlier turns as"),
        (ROW | {"history": [["a", None]]}, "'history', turn 0: what the assistant said is nothing (null); write the"),
    ],
)
def test_bad_rows(refusal: Refusal, row: dict[str, Any], message: str) -> None:
    assert refusal(row, ROW | {"history": None}).startswith(f"dataset 'rows.jsonl', row 1, column {message}")
