"""What tells the assistant's turns of a dialogue from those of others. No torch here.

Read are role, content and called functions alone: two rows are the same dialogue whatever system prompt, tools, call
ids, dates or other keys their files give them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SYSTEM = ("system", "developer")
"""Roles of messages that say how to answer, and are no turn of the dialogue."""


@dataclass(frozen=True)
class Turn:
    """One of the assistant's turns."""

    asked: str
    """Equal for turns that answer the same: the text itself of a single message of a user's, else a sha256 of all
    messages before it."""
    answered: str
    """sha256 of the same and its answer."""


def turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[Turn]:
    """The assistant's turns in their order. System prompts count only where nothing else stands before a turn."""
    said, system, number, only = hashlib.sha256(), hashlib.sha256(), 0, ""
    for message in messages:
        line = _line(message)
        if message["role"] in SYSTEM:
            system.update(line)
            continue
        if message["role"] == "assistant":
            before = (said if number else system).copy()
            asked = before.hexdigest() if number != 1 or not only else only
            before.update(line)
            yield Turn(asked, before.hexdigest())
        only = message.get("content", "") if message["role"] == "user" and number == 0 else only
        said.update(line)
        number += 1


def plain_turn(prompt: str, target: str) -> Turn:
    """That of an answer to a plain text, which is the user's only message."""
    [turn] = turns([{"role": "user", "content": prompt}, {"role": "assistant", "content": target}])
    return turn


def _line(message: Mapping[str, Any]) -> bytes:
    calls = [_called(call) for call in message.get("tool_calls") or ()]
    shown = [message["role"], message.get("content") or "", calls]
    return json.dumps(shown, sort_keys=True).encode() + b"\n"


def _called(call: Mapping[str, Any]) -> Any:
    function = call.get("function", call)
    return [function.get("name"), function.get("arguments")]
