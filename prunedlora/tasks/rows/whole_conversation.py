"""The example that a row's messages are."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.dialogue_turns import SYSTEM
from prunedlora.tasks.example import Conversation, Example
from prunedlora.tasks.rows.nested_values import canonical
from prunedlora.tasks.rows.row import Row


def conversation(
    row: Row,
    messages: Sequence[Mapping[str, Any]],
    where: str,
    *,
    num_prompt: int | None = None,
    tools: tuple[Mapping[str, Any], ...] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Example:
    """The example; the row's system prompt comes first where the messages have none. `where`: the column of the last
    message.

    Raises DataError where there is no message, the last is not the assistant's or says nothing, or nothing stands
    before it: there would be no prompt.
    """
    if not messages:
        raise DataError(f"{where}: has no messages")
    *before, last = messages
    if last["role"] != "assistant":
        heard = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if not heard:
            raise DataError(f"{where}: no message is the assistant's, so there is nothing to learn")
        raise DataError(
            f"{where}: the last message is of role {last['role']!r}; a conversation ends with the assistant's turn, so "
            f"leave out the {len(messages) - 1 - heard[-1]} after it"
        )
    target = last.get("content", "")
    if not target.strip():
        if not last.get("tool_calls"):
            raise DataError(f"{where}: the assistant's last message is empty, so there is nothing to learn")
        target = canonical(last["tool_calls"])
    if not before:
        raise DataError(f"{where}: nothing stands before the assistant's message; add the user's that it answers")
    if row.system is not None and not any(message["role"] in SYSTEM for message in messages):
        before = [{"role": "system", "content": row.system}, *before]
        num_prompt = None if num_prompt is None else num_prompt + 1
    return Example(
        prompt=canonical({"messages": before, "tools": tools}),
        target=target,
        conversation=Conversation((*before, last), tools, num_prompt, options or {}),
    )
