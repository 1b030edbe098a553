import json
from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.tasks.example import Conversation, Example

Read = Callable[..., Example]
Refusal = Callable[..., str]

TURNS = [{"from": "human", "value": "Weather?"}, {"from": "gpt", "value": "Mild."}]
USER, ANSWER = {"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "Mild."}
SYSTEM = {"role": "system", "content": "Be brief."}


def test_conversations_with_the_names_of_sharegpt(read: Read) -> None:
    assert read({"conversations": TURNS}).conversation == Conversation((USER, ANSWER))
    first = {"from": "system", "value": "Be brief."}
    assert read({"conversations": [first, *TURNS]}).conversation == Conversation((SYSTEM, USER, ANSWER))


def test_conversations_with_the_names_of_messages(read: Read) -> None:
    assert read({"conversations": [USER, ANSWER]}).conversation == Conversation((USER, ANSWER))


def test_the_column_of_the_system_prompt_goes_before_the_constant_one(read: Read) -> None:
    row = {"conversations": TURNS, "system": "Be brief."}
    assert read(row, system="Be long.").conversation == Conversation((SYSTEM, USER, ANSWER))
    for nothing in (None, ""):
        assert read({"conversations": TURNS, "system": nothing}).conversation == Conversation((USER, ANSWER))


@pytest.mark.parametrize("as_text", [False, True])
def test_calls_observations_and_tools(read: Read, as_text: bool) -> None:
    call = {"name": "weather", "arguments": {"city": "Paris", "days": 2}}
    tools = [{"name": "weather", "parameters": {"maximum": 7}}]
    turns = [
        TURNS[0],
        {"from": "function_call", "value": json.dumps(call) if as_text else call},
        {"from": "observation", "value": '{"degrees": 20}'},
        TURNS[1],
    ]
    example = read({"conversations": turns, "tools": json.dumps(tools) if as_text else tools})
    called = {"role": "assistant", "tool_calls": [{"type": "function", "function": call}]}
    found = {"role": "tool", "content": '{"degrees": 20}'}
    assert example.conversation == Conversation((USER, called, found, ANSWER), tuple(tools))


def test_several_calls_at_once(read: Read) -> None:
    both = [{"name": "a", "arguments": {}}, {"name": "b", "arguments": '{"x": 1}'}]
    for value in (json.dumps(both), both):
        example = read({"conversations": [TURNS[0], {"from": "function_call", "value": value}]})
        assert example.conversation is not None
        assert [call["function"] for call in example.conversation.messages[1]["tool_calls"]] == [
            {"name": "a", "arguments": {}},
            {"name": "b", "arguments": {"x": 1}},
        ]


def test_a_role_of_ones_own_goes_before_the_well_known(read: Read) -> None:
    row = {"conversations": [TURNS[0], {"from": "function_call", "value": "Mild."}]}
    assert read(row, roles={"function_call": "assistant"}).conversation == Conversation((USER, ANSWER))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"conversations": [TURNS[0], {"from": "function_call", "value": "weather(Paris)"}, TURNS[1]]},
            "'conversations', message 1, value: is a text and no JSON (Expecting value: line 1 column 1 (char 0)): "
            "'weather(Paris)'; write a function call as the JSON text of {'name': '…', 'arguments': {…}}, or of a list",
        ),
        (
            {"conversations": [TURNS[0], {"from": "function_call", "value": "[1]"}, TURNS[1]]},
            "'conversations', message 1, value: is a number; write a function call as",
        ),
        (
            {"conversations": [TURNS[0], {"from": "function_call", "value": "{}"}, TURNS[1]]},
            "'conversations', message 1, value: the function has no name; write tool calls as",
        ),
        (
            {"conversations": [TURNS[0], {"from": "function_call"}, TURNS[1]]},
            "'conversations', message 1: has no value; write a function call as",
        ),
        ({"conversations": TURNS[:1]}, "'conversations': no message is the assistant's, so there is nothing to learn"),
        ({"conversations": [*TURNS, TURNS[0]]}, "'conversations': the last message is of role 'user'; a conversation"),
        (
            {"conversations": [{"from": "system", "value": "x"}, *TURNS], "system": "y"},
            "'system': the messages have a system prompt as well; leave out one of them",
        ),
        ({"conversations": [{"value": "x"}]}, "'conversations', message 0: has no role; it has 'value', and a message"),
    ],
)
def test_bad_conversations(refusal: Refusal, row: dict[str, Any], message: str) -> None:
    assert refusal(row, {"conversations": TURNS}).startswith(f"dataset 'rows.jsonl', row 1, column {message}")
