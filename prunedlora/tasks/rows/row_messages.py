"""Messages as chat templates take them, out of those that files hold: {role, content} and ShareGPT's {from, value}."""

from collections.abc import Mapping
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.dialogue_turns import SYSTEM
from prunedlora.tasks.rows.nested_values import as_list, as_object, is_nothing, json_value, key_of, kind
from prunedlora.tasks.rows.row import Names, Row
from prunedlora.tasks.rows.tool_calls import CALL, calls_in_text, tool_calls
from prunedlora.tasks.templates import text_of

MESSAGES = "write a list of messages, [{'role': 'user', 'content': '…'}, …], or the JSON text of one"
PARTS = "a content is a text, or a list of {'type': 'text', 'text': '…'}"

ROLES = {
    **{role: role for role in ("system", "developer", "user", "assistant", "tool")},
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "observation": "tool",
    "function_call": "function_call",
}
"""Names of roles that files have → the standard ones; `function_call` is the assistant's turn whose text is a call."""


def read_messages(row: Row, column: str) -> list[dict[str, Any]]:
    """The messages of a column, in their order: `role`, `content` (a text; absent where there are only tool calls),
    and what else a message has, as it is.

    A message is read by the keys that it has itself, `role` and `content` or `from` and `value`. A content of several
    parts of text is joined: chat templates that know parts write them one after the other, and others take only texts.

    Raises DataError with the number of the message, counted from 0: what is no list of messages, a missing or unknown
    role, a missing content, parts that are no text, calls that are no JSON, a weight other than
    1, or a mark that a message is not to be trained.
    """
    where = row.where(column)
    if row.get(column) is None:
        raise DataError(f"{where} has no value; {MESSAGES}")
    entries = as_list(row.get(column), where, MESSAGES)
    return [_message(entry, f"{where}, message {number}", row.names) for number, entry in enumerate(entries)]


def read_dialogue(row: Row, column: str) -> list[dict[str, Any]]:
    """The same, with the system prompt of column `system` before them. Raises DataError where they have one besides."""
    messages, system = read_messages(row, column), row.text_or_none("system")
    if system is None:
        return messages
    if any(message["role"] in SYSTEM for message in messages):
        raise DataError(f"{row.where('system')}: the messages have a system prompt as well; leave out one of them")
    return [{"role": "system", "content": system}, *messages]


def read_tools(row: Row) -> tuple[Mapping[str, Any], ...] | None:
    """The functions of column `tools`, as they are; None where there are none. Raises DataError for what is no list of
    objects, nor the JSON text of one."""
    where, value = row.where("tools"), row.get("tools")
    if value is None or value == "":
        return None
    what = "write a list of JSON schemas of functions, or the JSON text of one"
    tools = []
    for number, tool in enumerate(as_list(value, where, what)):
        if not isinstance(tool, Mapping):
            raise DataError(f"{where}, tool {number}: is {kind(tool)}; {what}")
        tools.append(json_value(tool, f"{where}, tool {number}"))
    return tuple(tools) or None


def read_options(row: Row) -> Mapping[str, Any]:
    """What column `chat_template_kwargs` passes to the chat template for this row; empty where it has nothing."""
    where, value = row.where("chat_template_kwargs"), row.get("chat_template_kwargs")
    if value is None or value == "":
        return {}
    options: dict[str, Any] = json_value(as_object(value, where, "write an object, {'enable_thinking': false}"), where)
    return options


def _message(entry: Any, where: str, names: Names) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: is {kind(entry)}; a message is an object with a role and a content")
    given = {key_of(key, where): value for key, value in entry.items() if not is_nothing(value)}
    role_key, content_key = names.of("role"), names.of("content")
    if role_key not in given and names.of("from") in given:
        role_key, content_key = names.of("from"), names.of("value")
    role = _role(given, role_key, where, names)
    others = {key: value for key, value in given.items() if key not in (role_key, content_key)}
    message: dict[str, Any] = {"role": role}
    if role == "function_call":
        if content_key not in given:
            raise DataError(f"{where}: has no {content_key}; {CALL}")
        message = {"role": "assistant", "tool_calls": calls_in_text(given[content_key], f"{where}, {content_key}")}
    elif content_key in given:
        message["content"] = _content(given[content_key], f"{where}, {content_key}")
    elif role != "assistant" or not others.get("tool_calls"):
        raise DataError(
            f"{where}: has no {content_key}; it may be absent, or null, only beside an assistant's tool_calls"
        )
    _check_trained(others, where)
    for key, value in others.items():
        inside = f"{where}, {key}"
        if key in message:
            raise DataError(
                f"{where}: has {key} twice, by that name and as {role_key if key == 'role' else content_key}"
            )
        message[key] = tool_calls(value, inside) if key == "tool_calls" else json_value(value, inside)
    return message


def _check_trained(message: Mapping[str, Any], where: str) -> None:
    """Marks of OpenAI's (weight) and of others (train, training) for messages that are not to be trained."""
    weight = message.get("weight")
    if weight is not None and str(weight).strip() not in ("1", "1.0", "True"):
        raise DataError(
            f"{where}: has weight {weight}, and messages are not weighed one by one: those that are trained count the "
            "same; take the weight out where that is right, else the message or the row"
        )
    for key in ("train", "training"):
        if str(message.get(key, True)).strip().lower() in ("false", "0", "0.0"):
            raise DataError(
                f"{where}: has {key} {message[key]}, which would leave it untrained, and messages are not chosen one "
                "by one; take the mark out where it may be trained, else the message or the row"
            )


def _role(given: Mapping[str, Any], key: str, where: str, names: Names) -> str:
    if key not in given:
        pairs = " or ".join(
            f"{names.of(one)} and {names.of(two)}" for one, two in (("role", "content"), ("from", "value"))
        )
        found = ", ".join(map(repr, given)) or "nothing"
        raise DataError(f"{where}: has no role; it has {found}, and a message has {pairs} (fields: gives other names)")
    role = text_of(given[key], f"{where}, {key}")  # some files count roles: 0, 1
    known = ROLES | dict(names.roles)
    if role not in known:
        raise DataError(
            f"{where}: role {role!r} is not known; known: {', '.join(known)}; say what it is as roles: {{{role}: user}}"
        )
    return known[role]


def _content(value: Any, where: str) -> str:
    if isinstance(value, Mapping):
        raise DataError(f"{where}: is an object; {PARTS}")
    if not isinstance(value, list | tuple):
        return text_of(value, where)
    texts = []
    for number, part in enumerate(value):
        if not isinstance(part, Mapping) or part.get("type") is None:
            raise DataError(f"{where}, part {number}: is {kind(part)} without a type; {PARTS}")
        if part["type"] != "text":
            raise DataError(
                f"{where}, part {number}: is of type {part['type']!r}, and only text is trained on; {PARTS}: take such "
                "rows out"
            )
        if part.get("text") is None:
            raise DataError(f"{where}, part {number}: has no text; {PARTS}")
        texts.append(text_of(part["text"], f"{where}, part {number}"))
    return "".join(texts)
