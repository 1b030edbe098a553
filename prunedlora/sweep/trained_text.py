"""An example as the model reads it, decoded of its tokens and parted into what is trained and what is not.

Decoding two parts apart does not give the text of both: tokenizers take the space before a word into its token, and a
character may be several tokens. So a part is what the tokens until its end have more than those until its begin.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Piece:
    """Text of tokens that are one after the other."""

    text: str
    is_special: bool
    """One special token, which text that spells it is not."""


@dataclass(frozen=True)
class Run:
    """Pieces all of which are trained, or none."""

    pieces: tuple[Piece, ...]
    is_trained: bool

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def runs_of(ids: Sequence[int], spans: Sequence[tuple[int, int]], tokenizer: PreTrainedTokenizerBase) -> list[Run]:
    """The runs of these tokens in their order; their texts together are the tokens decoded. `spans`: what is trained,
    half-open. A character that a span's border divides stands behind it."""
    special = _special_ids(tokenizer)
    borders = {0, len(ids)} | {border for span in spans for border in span}
    borders |= {border for i, token in enumerate(ids) if token in special for border in (i, i + 1)}
    cuts = sorted(borders)
    texts = dict(zip(cuts[1:], _texts_between(list(ids), cuts, tokenizer), strict=True))
    edges = sorted({0, len(ids)} | {border for span in spans for border in span})
    return [
        Run(
            tuple(
                Piece(texts[end], end == start + 1 and ids[start] in special)
                for start, end in pairwise(cuts)
                if begin <= start and end <= stop
            ),
            any(first <= begin and stop <= last for first, last in spans),
        )
        for begin, stop in pairwise(edges)
    ]


def decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of tokens, special ones included and nothing tidied."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _texts_between(ids: list[int], cuts: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    whole = decoded(ids, tokenizer)
    lengths = [_shared(decoded(ids[:cut], tokenizer), whole) for cut in cuts[:-1]]
    return [whole[begin:end] for begin, end in pairwise([*lengths, len(whole)])]


def _shared(beginning: str, whole: str) -> int:
    """Characters that both begin with. Not all of `beginning`, where its last tokens are a part of a character."""
    while not whole.startswith(beginning):
        beginning = beginning[:-1]
    return len(beginning)


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> Collection[int]:
    """The named ones and those that were added as special, as the tokens of turns are."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | {int(number) for number in tokenizer.all_special_ids}
