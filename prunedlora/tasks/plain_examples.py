"""Prompt and answer as they are, one behind the other."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.plain_text import PlainText
from prunedlora.tasks.shortening import cut_in_text
from prunedlora.tasks.task import Features, Shortened


class PlainReader:
    """Input: beginning-of-text token if the tokenizer puts one, prompt, answer, end-of-text token. The loss is over the
    answer and the end-of-text token only.

    Prompt and answer are tokenised apart and joined, so the border is exact, and the prompt is tokenised the same with
    and without its answer. What the data hold is text, even where it spells a special token (plain_text.py).
    Inputs longer than the limit lose the end of the answer, and with it the end-of-text token (the model is not taught
    to stop there), or the beginning of the prompt (shortening.py); the prompt also leaves `room` for what is generated.
    All of it is counted as shortened.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prefix: list[int], max_length: int | None, room: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._plain = PlainText(tokenizer, add_special_tokens=False)
        self._prefix = prefix
        self._max_length = max_length
        self._room = room or 0

    def check(self, split: str, example: Example) -> None:
        """A target is what is generated: text, without the special tokens that end it or stand in it. Raises DataError
        for others."""
        end = str(self._tokenizer.eos_token)
        if example.target.rstrip().endswith(end):
            raise DataError(
                f"a target of {split} ends in the end-of-text token {end!r}, which every answer gets by itself: "
                f"take it out of the data or the target's template ({example.target[-80:]!r})"
            )
        self.check_literals(split, example, templated=False)

    def check_literals(self, split: str, example: Example, *, templated: bool) -> None:
        """Raises DataError for special tokens in the target's template, and in the prompt's where a chat template
        writes it out."""
        if meant := self._plain.meant(example.target_literals):
            names = ", ".join(map(repr, self._tokenizer.convert_ids_to_tokens(sorted(set(meant)))))
            raise DataError(
                f"the target's template of {split} holds special tokens ({names}): an answer is scored as text, "
                "and its end-of-text token is put there by itself; write the template without them"
            )
        if templated and self._plain.meant(example.prompt_literals):
            raise DataError(
                f"the prompt's template of {split} holds special tokens, and data.chat_template writes them around "
                "each turn by itself: write the prompt without them"
            )

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Features in the order of the examples. Raises DataError as PlainText.ids, and for a prompt that begins with
        what the tokenizer puts there."""
        asked = self._plain.ids(
            [example.prompt for example in examples], [example.prompt_literals for example in examples]
        )
        answers = self._plain.ids([example.target for example in examples], [()] * len(examples))
        for example, prompt in zip(examples, asked, strict=True):
            if self._prefix and prompt[:1] == self._prefix:
                raise DataError(
                    f"the prompt's template begins with {self._tokenizer.bos_token!r}, which the tokenizer puts there "
                    f"itself: leave it out ({example.prompt[:80]!r})"
                )
        return [
            self._features(example, prompt, [*answer, self._tokenizer.eos_token_id])
            for example, prompt, answer in zip(examples, asked, answers, strict=True)
        ]

    def _features(self, example: Example, prompt: list[int], answer: list[int]) -> Features:
        ids, border = [*self._prefix, *prompt, *answer], len(self._prefix) + len(prompt)
        targets = [border, len(ids)]
        if self._max_length is None or max(len(ids), border + self._room) <= self._max_length:
            return Features(ids, targets, Shortened.NOT, example)
        cut = cut_in_text(ids, targets, border, self._max_length, room=self._room, kept=len(self._prefix))
        return Features(cut.ids, cut.targets, Shortened.IN_TEXT, example)
