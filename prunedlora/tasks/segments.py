"""Texts of which some are trained: each tokenised by itself, one behind the other."""

from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.chat.kinds import named
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.plain_text import PlainText
from prunedlora.tasks.shortening import cut_in_text
from prunedlora.tasks.task import Features, Shortened


class SegmentReader:
    """Input: beginning-of-text token if the tokenizer puts one, the segments, and the end-of-text token where the last
    of them is trained. The first token is no target: nothing predicts it."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prefix: list[int], max_length: int | None, room: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._plain = PlainText(tokenizer, add_special_tokens=False)
        self._prefix = prefix
        self._max_length = max_length
        self._room = room or 0

    def check(self, example: Example) -> None:
        """Raises DataError for segments that spell what the tokenizer puts there itself."""
        assert example.segments is not None
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
        texts = [segment.text for example in examples for segment in example.segments or ()]
        rows = iter(self._plain.ids(texts, [()] * len(texts)))
        return [self._features(example, [next(rows) for _ in example.segments or ()], prompts) for example in examples]

    def _features(self, example: Example, rows: list[list[int]], prompts: bool) -> Features:
        segments = example.segments or ()
        ids, targets, border = list(self._prefix), [0], len(self._prefix)
        for number, (segment, row) in enumerate(zip(segments, rows, strict=True), start=1):
            begin = max(len(ids), 1)
            ends = [self._tokenizer.eos_token_id] if number == len(segments) and segment.trained else []
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
