"""Tokens cut to a limit: of what comes before the answer the beginning goes, of the answer the end."""

from collections.abc import Sequence
from typing import NamedTuple


class Cut(NamedTuple):
    """What is left."""

    ids: list[int]
    targets: list[int]
    """The spans, as in Features; those of which nothing is left are not there."""
    border: int
    """The first token of the answer."""


def cut_in_text(
    ids: Sequence[int], targets: Sequence[int], border: int, max_length: int, *, room: int, kept: int
) -> Cut:
    """At most `max_length` of the tokens, and where the spans in `targets` lie in them then.

    `border`: the first token of the answer. The prompt keeps at least its last token and leaves `room` for what is
    generated; its first `kept` tokens, a beginning of the text that every one has, stay.
    """
    kept = min(kept, border)
    least = min(1, border - kept)
    answer = min(len(ids) - border, max_length - kept - least)
    prompt = max(least, min(border - kept, max_length - kept - max(answer, room)))
    gone, end = border - prompt, border + answer
    moved = [min(at, kept) if at < gone else min(at, end) - (gone - kept) for at in targets]
    spans = [span for span in zip(moved[::2], moved[1::2], strict=True) if span[0] < span[1]]
    return Cut([*ids[:kept], *ids[gone:end]], [at for span in spans for at in span], kept + prompt)
