"""Tokens cut to a limit: of an answer the end goes, of what comes before it the beginning where it does not fit."""

from collections.abc import Sequence
from typing import NamedTuple


class Cut(NamedTuple):
    """What is left."""

    ids: list[int]
    targets: list[int]
    """The spans, as in Features; those of which nothing is left are not there."""
    border: int
    """The first token of the answer."""


def prompt_limit(prompt: int, answer: int, limit: int, room: int) -> int:
    """How many of the `prompt` tokens before an answer of `answer` tokens fit into `limit` tokens.

    A prompt that leaves a quarter of them to its answer is kept whole: an answer to a part of its question teaches
    what is wrong, and one without its end only less. Of others as much is kept as a half of the limit for the answer,
    or less where it is shorter, leaves. Both leave `room` for what is generated, and a token for each other.
    """
    if prompt <= limit - max(min(answer, -(-limit // 4)), room):
        return prompt
    return max(min(1, prompt), min(prompt, limit - max(min(answer, -(-limit // 2)), room)))


def cut_in_text(
    ids: Sequence[int], targets: Sequence[int], border: int, max_length: int, *, room: int, kept: int
) -> Cut:
    """At most `max_length` of the tokens, and where the spans in `targets` lie in them then.

    `border`: the first token of the answer. What is kept of the prompt is its end (prompt_limit); its first `kept`
    tokens, a beginning of the text that every one has, stay.
    """
    kept = min(kept, border)
    prompt = prompt_limit(border - kept, len(ids) - border, max_length - kept, room)
    gone, end = border - prompt, border + min(len(ids) - border, max_length - kept - prompt)
    moved = [min(at, kept) if at < gone else min(at, end) - (gone - kept) for at in targets]
    spans = [span for span in zip(moved[::2], moved[1::2], strict=True) if span[0] < span[1]]
    return Cut([*ids[:kept], *ids[gone:end]], [at for span in spans for at in span], kept + prompt)
