import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example
from prunedlora.tasks.sources import Source, load_examples

Read = Callable[..., Example]
Refusal = Callable[..., str]

USER = {"role": "user", "content": "Weather in Paris?"}
ANSWER = {"role": "assistant", "content": "Mild."}
GOOD = {"messages": [USER, ANSWER]}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris", "days": 2}}}


def test_the_last_turn_is_the_target_and_all_before_it_the_prompt(read: Read) -> None:
    example = read({"messages": [{"role": "system", "content": "Be brief."}, USER, ANSWER], "id": 7})
    assert example.conversation == Conversation(({"role": "system", "content": "Be brief."}, USER, ANSWER))
    assert example.target == "Mild."
    assert json.loads(example.prompt) == {"messages": [{"role": "system", "content": "Be brief."}, USER], "tools": None}
    assert example.place.endswith("rows.jsonl', row 0")
    assert example.columns == {}


def test_prompts_tell_conversations_apart(read: Read) -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    called = {"role": "assistant", "tool_calls": [call | {"id": "c1"}]}
    rows = [GOOD, {"messages": [USER, ANSWER, USER, ANSWER]}, {"messages": [USER, called, USER, ANSWER]}]
    assert len({read(row).unit for row in rows}) == 3
    same = {"messages": [USER, called | {"tool_calls": [call | {"id": "c2"}]}, USER, ANSWER]}
    assert read(same).unit == read(rows[-1]).unit
    for row in ({"tools": tools}, {"system": "Be brief."}, {"messages": [USER | {"at": "noon"}, ANSWER]}):
        assert read(GOOD | row).unit == read(GOOD).unit == USER["content"]
    openings = [{"messages": [{"role": "system", "content": text}, ANSWER]} for text in ("Say 4.", "Say 5.")]
    assert len({read(row).unit for row in openings}) == 2
    reordered = [{key: turn[key] for key in reversed(turn)} for turn in (USER, ANSWER)]
    assert read({"messages": reordered}).unit == read(GOOD).unit


def test_tools_and_calls_are_passed_on_with_numbers_that_are_numbers(read: Read) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"maximum": 1.5, "minItems": 1}}}]
    result = {"role": "tool", "name": "weather", "tool_call_id": "a1", "content": "{}"}
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL | {"id": "a1"}]}
    example = read({"messages": [USER, asked, result, ANSWER], "tools": tools})
    assert example.conversation is not None
    assert example.conversation.tools == tuple(tools)
    assert example.conversation.messages[1] == {"role": "assistant", "tool_calls": [CALL | {"id": "a1"}]}
    assert example.conversation.messages[2] == result
    days = example.conversation.messages[1]["tool_calls"][0]["function"]["arguments"]["days"]
    assert type(days) is int
    assert type(example.conversation.tools[0]["function"]["parameters"]["maximum"]) is float


def test_arguments_in_json_text_become_an_object(read: Read) -> None:
    """OpenAI's interface writes them so, and chat templates take objects; nulls in the text were written there."""
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris", "at": null}'}}
    for tools in ([{"name": "weather"}], '[{"name": "weather"}]'):
        example = read({"messages": [USER, {"role": "assistant", "tool_calls": [call]}], "tools": tools})
        assert example.conversation is not None
        [called] = example.conversation.messages[-1]["tool_calls"]
        assert called["function"] == {"name": "weather", "arguments": {"city": "Paris", "at": None}}
        assert json.loads(example.target) == [called]
        assert example.conversation.tools == ({"name": "weather"},)


def test_parts_of_text_are_joined_and_other_keys_are_kept(read: Read) -> None:
    parts = [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Paris?"}]
    answer = ANSWER | {"reasoning_content": "Let me see.", "name": None, "weight": 1}
    example = read({"messages": [{"role": "user", "content": parts}, answer], "tools": []})
    assert example.conversation == Conversation((USER, ANSWER | {"reasoning_content": "Let me see.", "weight": 1}))


def test_a_message_is_read_by_its_own_keys_and_well_known_names_of_roles(read: Read) -> None:
    row = {"messages": [{"from": "human", "value": "Weather in Paris?"}, {"from": "gpt", "value": "Mild."}]}
    assert read(row).conversation == Conversation((USER, ANSWER))
    assert read({"messages": [USER | {"role": "human"}, ANSWER | {"role": "model"}]}).conversation == Conversation(
        (USER, ANSWER)
    )


def test_names_of_ones_own(read: Read) -> None:
    row = {"dialogue": [{"speaker": "customer", "said": "Weather in Paris?"}, {"speaker": "agent", "said": "Mild."}]}
    example = read(
        row,
        fields={"messages": "dialogue", "role": "speaker", "content": "said"},
        roles={"customer": "user", "agent": "assistant"},
    )
    assert example.conversation == Conversation((USER, ANSWER))


def test_roles_may_be_numbers(read: Read) -> None:
    row = {"messages": [USER | {"role": 0}, ANSWER | {"role": 1}]}
    assert read(row, roles={"0": "user", "1": "assistant"}).conversation == Conversation((USER, ANSWER))


def test_a_system_prompt_for_conversations_that_have_none(read: Read) -> None:
    system = {"role": "system", "content": "Be brief."}
    assert read(GOOD, system="Be brief.").conversation == Conversation((system, USER, ANSWER))
    for role in ("system", "developer"):
        own = {"role": role, "content": "Be long."}
        assert read({"messages": [own, USER, ANSWER]}, system="Be brief.").conversation == Conversation(
            (own, USER, ANSWER)
        )


def test_a_system_prompt_in_a_column_of_its_own(read: Read, refusal: Refusal) -> None:
    system = {"role": "system", "content": "Be brief."}
    row = GOOD | {"system": "Be brief."}
    assert read(row, system="Be long.").conversation == Conversation((system, USER, ANSWER))
    assert read(GOOD | {"system": " "}).conversation == Conversation((USER, ANSWER))
    for role in ("system", "developer"):
        both = {"messages": [system | {"role": role}, USER, ANSWER], "system": "Be long."}
        assert "column 'system': the messages have a system prompt as well" in refusal(both)


def test_null_is_a_value_in_arguments_and_schemas(read: Read) -> None:
    """But an empty key of a call is none: OpenAI's interface writes such."""
    function = {"name": "f", "arguments": {"limit": None, "of": [{"x": None}]}}
    asked = {"role": "assistant", "tool_calls": [{"type": "function", "id": None, "function": function}]}
    tools = [{"name": "f", "parameters": {"limit": {"default": None, "enum": [None, 1]}}}]
    conversation = read({"messages": [USER, asked], "tools": tools}).conversation
    assert conversation is not None
    assert conversation.messages[-1]["tool_calls"] == [{"type": "function", "function": function}]
    assert conversation.tools == tuple(tools)


def test_options_of_the_row_for_its_template(read: Read) -> None:
    for options in ({"enable_thinking": False, "depth": 2}, '{"enable_thinking": false, "depth": 2}'):
        example = read(GOOD | {"chat_template_kwargs": options})
        assert example.conversation is not None
        assert example.conversation.options == {"enable_thinking": False, "depth": 2}


def test_a_list_may_be_its_json_text(read: Read) -> None:
    assert read({"messages": json.dumps(GOOD["messages"])}) == read(GOOD)


def said(**message: Any) -> dict[str, Any]:
    """A row whose second message is this one."""
    return {"messages": [USER, message, ANSWER]}


def calls(*calls: Any) -> dict[str, Any]:
    return said(role="assistant", tool_calls=list(calls))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": None}, " has no value; write a list of messages"),
        ({"messages": "hello"}, ": is a text and no JSON (Expecting value: line 1 column 1 (char 0)): 'hello'; write"),
        (
            {"messages": "[{'role': 'user'}]"},
            ": is a text and no JSON (Expecting property name enclosed in double quotes: line 1 column 3 (char 2)): "
            "\"[{'role': 'user'}]\" (it looks printed by Python: json.dumps writes JSON); write a list of messages",
        ),
        ({"messages": '{"a": 1}'}, ": is an object in JSON text; write a list of messages"),
        ({"messages": {"role": "user"}}, ": is an object; write a list of messages"),
        ({"messages": 3}, ": is a number; write a list of messages"),
        ({"messages": []}, ": has no messages"),
        ({"messages": [USER, "Mild."]}, ", message 1: is a text; a message is an object with a role and a content"),
        (
            said(content="x"),
            ", message 1: has no role; it has 'content', and a message has role and content or from and value",
        ),
        (said(role=None, content="x"), ", message 1: has no role; it has 'content'"),
        (said(role=["user"], content="x"), ", message 1, role holds a list; a text is made of text and numbers"),
        (
            said(role="narrator", content="x"),
            ", message 1: role 'narrator' is not known; known: system, developer, user, assistant, tool, human, gpt, "
            "model, bot, observation, function_call; say what it is as roles: {narrator: user}",
        ),
        (said(role="user"), ", message 1: has no content; it may be absent, or null, only beside an assistant's tool"),
        (said(role="user", content=None), ", message 1: has no content; it may be absent"),
        (said(role="assistant", content=None, tool_calls=[]), ", message 1: has no content"),
        (said(role="user", content={"text": "x"}), ", message 1, content: is an object; a content is a text, or a"),
        (said(role="user", content="\ud83d"), r", message 1, content holds '\ud83d' at character 0, half of a"),
        (said(role="user", content=["x"]), ", message 1, content, part 0: is a text without a type; a content is"),
        (
            said(role="user", content=[{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]),
            ", message 1, content, part 1: is of type 'image_url', and only text is trained on; a content is a text, "
            "or a list of {'type': 'text', 'text': '…'}: take such rows out",
        ),
        (said(role="user", content=[{"type": "text"}]), ", message 1, content, part 0: has no text; a content is"),
        (
            {"messages": [{"from": "human", "value": "x", "content": "y"}, ANSWER]},
            ", message 0: has content twice, by that name and as value",
        ),
        (said(role="assistant", content="x", weight=0), ", message 1: has weight 0, and messages are not weighed"),
        (said(role="assistant", content="x", weight=0.0), ", message 1: has weight 0.0, and messages are not weighed"),
        (said(role="assistant", content="x", weight="0.0"), ", message 1: has weight 0.0, and messages are not"),
        (said(role="assistant", content="x", weight=0.5), ", message 1: has weight 0.5, and messages are not weighed"),
        (said(role="assistant", content="x", weight=False), ", message 1: has weight False, and messages are not"),
        (said(role="assistant", content="x", train=False), ", message 1: has train False, which would leave it"),
        (said(role="assistant", content="x", training=0), ", message 1: has training 0, which would leave it untrain"),
        (said(role="user", content="x", **{"\ud83d": 1}), ", message 1: has a key that holds '\\ud83d' at character 0"),
        (said(role="user", content="x", a={"\ud83d": 1}), ", message 1, a: has a key that holds '\\ud83d' at chara"),
        ({"messages": "[" * 99999}, ": has lists and objects too deep inside one another: '[[["),
        (
            said(role="user", content="x", a=json.loads("[" * 102 + "]" * 102)),
            ", message 1, a: has lists and objects mo",
        ),
        (said(role="assistant", tool_calls="[1"), ", message 1, tool_calls: is a text and no JSON (Expecting ',' "),
        (calls("weather"), ", message 1, tool_calls, call 0: is a text; write tool calls as [{'type': 'function', "),
        (
            calls(CALL, {"function": {"arguments": {}}}),
            ", message 1, tool_calls, call 1: the function has no name; write tool",
        ),
        (
            calls({"function": {"name": "f", "arguments": "{city"}}),
            ", message 1, tool_calls, call 0, arguments: is a text and no JSON (Expecting property name enclosed in "
            "double quotes: line 1 column 2 (char 1)): '{city'; arguments are an object, or the JSON text of one",
        ),
        (
            calls({"function": {"name": "f", "arguments": [1]}}),
            ", message 1, tool_calls, call 0, arguments: is a list; arguments are an object",
        ),
        (
            calls({"name": "f", "arguments": "[1]"}),
            ", message 1, tool_calls, call 0, arguments: is a list in JSON text; arguments are",
        ),
        (
            {"messages": [USER, ANSWER, USER, USER]},
            ": the last message is of role 'user'; a conversation ends with the assistant's turn, so leave out the 2 "
            "after it",
        ),
        ({"messages": [USER]}, ": no message is the assistant's, so there is nothing to learn"),
        (
            {"messages": [USER, {"role": "assistant", "content": " "}]},
            ": the assistant's last message is empty, so there is nothing to learn",
        ),
        ({"messages": [ANSWER]}, ": nothing stands before the assistant's message; add the user's that it answers"),
    ],
)
def test_bad_messages(refusal: Refusal, row: dict[str, Any], message: str) -> None:
    found = refusal(row, GOOD)
    assert found.startswith("dataset 'rows.jsonl', row 1, column 'messages'" + message)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tools": "weather"}, "'tools': is a text and no JSON (Expecting value: line 1 column 1 (char 0)): 'weather'"),
        (
            {"tools": {"name": "f"}},
            "'tools': is an object; write a list of JSON schemas of functions, or the JSON text",
        ),
        ({"tools": ["f"]}, "'tools', tool 0: is a text; write a list of JSON schemas of functions"),
        ({"tools": [{"name": "f", "most": float("nan")}]}, "'tools', tool 0: holds nan; JSON has texts, numbers"),
        ({"tools": [{"name": "\udc00"}]}, r"'tools', tool 0: holds '\udc00' at character 0, half of a character"),
        ({"chat_template_kwargs": [1]}, "'chat_template_kwargs': is a list; write an object, {'enable_thinking': fal"),
        ({"chat_template_kwargs": "yes"}, "'chat_template_kwargs': is a text and no JSON (Expecting value: line 1"),
    ],
)
def test_bad_columns_beside_the_messages(refusal: Refusal, columns: dict[str, Any], message: str) -> None:
    assert refusal(GOOD | columns, GOOD | {next(iter(columns)): None}).startswith(
        "dataset 'rows.jsonl', row 1, column " + message
    )


def test_numbers_that_python_does_not_hold(tmp_path: Path) -> None:
    for number, message in (("1e999", "tool 0: number 1e999 is too large"), ("9" * 5000, "tool 0: Exceeds the limit")):
        text = json.dumps(GOOD | {"tools": [{"most": "NUMBER"}]}).replace('"NUMBER"', number)
        (tmp_path / "rows.jsonl").write_text(text)
        with pytest.raises(DataError, match=message):
            load_examples(Source(str(tmp_path / "rows.jsonl")), 0)
