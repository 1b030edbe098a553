"""Calls of functions in messages, in the shape that chat templates take."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.rows.nested_values import as_list, as_object, json_value, kind

CALLS = "write tool calls as [{'type': 'function', 'function': {'name': '…', 'arguments': {…}}}]"
CALL = "write a function call as the JSON text of {'name': '…', 'arguments': {…}}, or of a list of them"


def tool_calls(value: Any, where: str) -> list[Any]:
    """As they are, but for arguments that are JSON text, as OpenAI's interface has them: chat templates take an object
    (https://huggingface.co/docs/transformers/chat_extras). Raises DataError for what is no list of objects, a function
    without a name, and arguments that are no object."""
    calls = []
    for number, call in enumerate(as_list(value, where, CALLS)):
        inside = f"{where}, call {number}"
        if not isinstance(call, Mapping):
            raise DataError(f"{inside}: is {kind(call)}; {CALLS}")
        function = call.get("function")
        if isinstance(function, Mapping):
            calls.append({**_without_nothing(json_value(call, inside)), "function": _called(function, inside)})
        else:
            calls.append(_called(call, inside))
    return calls


def calls_in_text(value: Any, where: str) -> list[Any]:
    """The calls of a message that is one, in the shape of `tool_calls`: ShareGPT has them as the JSON text of
    {name, arguments}. Raises DataError for text that is no JSON, and as `tool_calls`."""
    calls: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, str) and value.lstrip().startswith("["):
        calls = as_list(value, where, CALL)
    return [{"type": "function", "function": _called(as_object(call, where, CALL), where)} for call in calls]


def _called(function: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(function.get("name"), str):
        raise DataError(f"{where}: the function has no name; {CALLS}")
    called = _without_nothing(json_value(function, where))
    if "arguments" in called:
        what = "arguments are an object, or the JSON text of one"
        called["arguments"] = dict(as_object(called["arguments"], f"{where}, arguments", what))
    return called


def _without_nothing(call: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys of a call, but not of its arguments, that are null: OpenAI's interface writes such."""
    return {key: value for key, value in call.items() if value is not None}
