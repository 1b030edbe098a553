"""Texts of which some are trained: each tokenised by itself, one behind the other."""

from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.chat.kinds import named
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.plain_text import PlainText, special_ids
from prunedlora.tasks.shortening import cut_in_text
from prunedlora.tasks.task import Features, Shortened


class SegmentReader:
    """Input: beginning-of-text token if the tokenizer puts one, the segments, and the end-of-text token where the last
    of them is trained. The first token is no target: nothing predicts it.

    Special tokens that the segments spell are read as such where the source says so (Example.special_tokens): neither
    of the two is then put where the data have it already.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prefix: list[int], max_length: int | None, room: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._plain = PlainText(tokenizer, add_special_tokens=False)
        self._prefix = prefix
        self._max_length = max_length
        self._room = room or 0

    def check(self, example: Example) -> None:
        """Raises DataError for segments that spell special tokens where nothing says how they are read, or, as
        characters, what the tokenizer puts there itself."""
        assert example.segments is not None
        if example.special_tokens:
            return
        for segment in example.segments if example.special_tokens is None else ():
            if (name := self._plain.spelt(segment.text)) is not None:
                at = max(0, segment.text.index(name) - 20)
                raise DataError(
                    f"{named(example)}: its text spells the special token {name!r} ({segment.text[at : at + 80]!r}): "
                    "give its source special_tokens: true to read special tokens as such, as texts need that a chat "
                    "template has written already, or false to read them as characters"
                )
        begin, end = self._tokenizer.bos_token, self._tokenizer.eos_token
        for segment in example.segments:
            if segment.trained and segment.text.rstrip().endswith(str(end)):
                raise DataError(
                    f"{named(example)}: a trained segment ends in the end-of-text token {end!r}, which is put behind "
                    f"the last one by itself: take it out of the data ({segment.text[-80:]!r})"
                )
        if self._prefix and example.segments[0].text.lstrip().startswith(str(begin)):
            raise DataError(
                f"{named(example)}: the first segment begins with {begin!r}, which the tokenizer puts there itself: "
                f"take it out of the data ({example.segments[0].text[:80]!r})"
            )

    def encode(self, examples: Sequence[Example], *, prompts: bool) -> list[Features]:
        """Features in the order of the examples, all of which have segments. Raises DataError where nothing is
        trained."""
        pieces = [(segment.text, example) for example in examples for segment in example.segments or ()]
        plain = [text for text, example in pieces if not example.special_tokens]
        meant = [text for text, example in pieces if example.special_tokens]
        as_text, as_tokens = iter(self._plain.ids(plain, [()] * len(plain))), iter(self._with_special(meant))
        return [
            self._features(
                example,
                [next(as_tokens if example.special_tokens else as_text) for _ in example.segments or ()],
                prompts,
            )
            for example in examples
        ]

    def answer(self, example: Example) -> str:
        """The last trained segment as answers are read: without special tokens where it may hold some, and then without
        outer white space."""
        if not example.special_tokens:
            return example.target
        (ids,) = self._with_special([example.target])
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def is_ended(self, example: Example) -> bool:
        """Whether a token that is trained ends what it is to write."""
        assert example.segments is not None
        return example.segments[-1].trained or bool(self.ends([example]))

    def ends(self, examples: Sequence[Example]) -> list[int]:
        """Special tokens that end the last trained segment where the data spell them, in the order of their ids."""
        targets = dict.fromkeys(example.target.rstrip() for example in examples if example.special_tokens)
        last = {row[-1] for row in self._with_special(list(targets)) if row}
        return sorted(last & special_ids(self._tokenizer))

    def _with_special(self, texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = (
            self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        )
        return rows

    def _features(self, example: Example, rows: list[list[int]], prompts: bool) -> Features:
        segments = example.segments or ()
        has_begin = bool(example.special_tokens and self._prefix and rows[0][:1] == self._prefix)
        prefix = [] if has_begin else self._prefix
        ids, targets, border = list(prefix), [0], len(prefix)
        for number, (segment, row) in enumerate(zip(segments, rows, strict=True), start=1):
            begin = max(len(ids), 1)
            has_end = example.special_tokens and segment.text.endswith(str(self._tokenizer.eos_token))
            is_last = number == len(segments) and segment.trained
            ends = [self._tokenizer.eos_token_id] if is_last and not has_end else []
            if segment.trained and row + ends:
                border = len(ids)
            ids += row + ends
            if segment.trained and begin < len(ids):
                targets = targets[:-1] if targets[-1] == begin else [*targets, begin]
                targets.append(len(ids))
        targets = targets[1:]
        if not targets:
            raise DataError(f"{named(example)}: no token of it is trained")
        assert all(one < other for one, other in pairwise(targets))
        if self._max_length is None or (len(ids) <= self._max_length and border + self._room <= self._max_length):
            return Features(ids, targets, Shortened.NOT, example, (prompts and ids[:border]) or None)
        cut = cut_in_text(ids, targets, border, self._max_length, room=self._room, kept=len(self._prefix))
        return Features(cut.ids, cut.targets, Shortened.IN_TEXT, example, (prompts and cut.ids[: cut.border]) or None)
