"""The score of search_spaces/smollm2_chat_ladder.yaml, and how one's own is written: a function of an answer."""

from collections.abc import Mapping
from typing import Any


def score(answer: str, example: Mapping[str, Any]) -> float:
    """Which share of "team, urgency, order" is right, part by part; 0 for an answer that has not three parts.

    `example`: `prompt`, `target`, of a conversation its `messages`, and the source's `score_columns`.
    """
    parts, wanted = answer.strip().split(", "), example["target"].strip().split(", ")
    if len(parts) != len(wanted):
        return 0.0
    return sum(part == right for part, right in zip(parts, wanted, strict=True)) / len(wanted)
