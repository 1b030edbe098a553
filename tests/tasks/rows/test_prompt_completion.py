import json
from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.tasks.example import Conversation, Example

Read = Callable[..., Example]
Refusal = Callable[..., str]

SYSTEM = {"role": "system", "content": "Be brief."}
USER, ANSWER = {"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}
TALK = {"prompt": [USER], "completion": [ANSWER]}


def test_two_texts_are_those_of_templates(read: Read) -> None:
    row = {"prompt": "2 + 2 = ", "completion": 4.50, "id": 1}
    example = read(row)
    assert example == Example("2 + 2 = ", "4.5")
    assert example == read(row, prompt="{prompt}", target="{completion}")
    assert (example.prompt_literals, example.target_literals) == ((), ())
    assert type(example.target) is str


def test_two_lists_are_a_conversation_with_its_border(read: Read) -> None:
    assert read(TALK).conversation == Conversation((USER, ANSWER), num_prompt=1)
    assert read(TALK, system="Be brief.").conversation == Conversation((SYSTEM, USER, ANSWER), num_prompt=2)
    assert read({"prompt": "2 + 2", "completion": "4"}, system="Be brief.").system == "Be brief."
    several = {"prompt": [SYSTEM, USER], "completion": [ANSWER, USER, ANSWER]}
    example = read(several | {"tools": [{"name": "f"}], "chat_template_kwargs": {"a": True}})
    assert example.conversation == Conversation((SYSTEM, USER, ANSWER, USER, ANSWER), ({"name": "f"},), 2, {"a": True})
    assert json.loads(example.prompt)["messages"] == [SYSTEM, USER, ANSWER, USER]
    assert example.target == "4"


def test_names_of_ones_own(read: Read) -> None:
    row = {"question": "2 + 2", "answer": "4", "text": "2 + 2 4"}
    assert read(row, fields={"prompt": "question", "completion": "answer"}) == Example("2 + 2", "4")
    turns = {"prompt": [{"who": "kid", "says": "2 + 2"}], "completion": [{"who": "assistant", "says": "4"}]}
    names = {"fields": {"role": "who", "content": "says"}, "roles": {"kid": "user"}}
    assert read(turns, **names).conversation == Conversation((USER, ANSWER), num_prompt=1)


PLAIN = {"prompt": "2 + 2", "completion": "4"}


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        (
            {"prompt": "2 + 2", "completion": [ANSWER]},
            {},
            "'prompt': is a text, and column 'completion' is a list; both",
        ),
        ({"prompt": [USER], "completion": "4"}, {}, "'prompt': is a list, and column 'completion' is a text; both are"),
        ({"prompt": [], "completion": [ANSWER]}, {}, "'prompt': has no messages"),
        ({"prompt": [USER], "completion": []}, {}, "'completion': has no messages"),
        ({"prompt": [USER], "completion": [USER]}, {}, "'completion': no message is the assistant's"),
        ({"prompt": [USER, ANSWER], "completion": [USER]}, {}, "'completion': the last message is of role 'user'"),
        ({"prompt": [USER], "completion": [{"role": "x"}]}, {}, "'completion', message 0: role 'x' is not known"),
        ({"prompt": "", "completion": "4"}, {}, "'prompt': is an empty text"),
        ({"prompt": "2 + 2", "completion": None}, {}, "'completion' has no value"),
        ({"prompt": {"a": 1}, "completion": "4"}, {}, "'prompt' holds a dict; a text is made of text and numbers"),
        (
            {"prompt": json.dumps([USER]), "completion": json.dumps([ANSWER])},
            {},
            "'prompt': is the JSON text of messages, which would be learnt letter by letter; write prompt and comp",
        ),
        ({"prompt": json.dumps(USER), "completion": "4"}, {}, "'prompt': is the JSON text of messages, which would"),
        ({"prompt": "2", "completion": json.dumps([ANSWER])}, {}, "'completion': is the JSON text of messages, which"),
        (
            {"prompt": "2", "completion": '{"who": "gpt", "value": "4"}'},
            {"fields": {"from": "who"}},
            "'completion': is the JSON text of messages, which would be learnt letter by letter",
        ),
        (PLAIN, {"roles": {"kid": "user"}}, "'prompt': is a text, on which roles has no effect; remove it"),
        (PLAIN, {"fields": {"role": "who"}}, "'prompt': is a text, on which fields has no effect; remove it"),
        (
            PLAIN | {"tools": [{"name": "f"}], "chat_template_kwargs": {"a": 1}},
            {},
            "'prompt': is a text, on which column 'tools', column 'chat_template_kwargs' has no effect; remove it",
        ),
    ],
)
def test_bad_rows(refusal: Refusal, row: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    assert refusal(row, **settings).startswith(f"dataset 'rows.jsonl', row 0, column {message}")


def test_texts_in_brackets_are_texts(read: Read) -> None:
    for text in ("[1]", "[", "[]", '[{"a": 1, "b": 2}]', '{"name": "f", "arguments": {}}', "[" * 9999):
        assert read({"prompt": text, "completion": text}) == Example(text, text)
