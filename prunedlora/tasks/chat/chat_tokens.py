"""Rendered text → tokens and where they lie in it. Special tokens are the template's alone: "</s>" in a message is
text."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.chat.chat_template import Span
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation
from prunedlora.tasks.plain_text import names_pattern, special_ids

BEFORE = ("", "\n", " ", ".", "a")
"""What a piece of a text is tokenised after: some tokenizers put a space before whatever they think begins a text."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text in tokens."""

    ids: list[int]
    offsets: list[Span]
    """Where each lies in the text, in characters."""

    def within(self, begin: int, end: int) -> Span:
        """(first, last + 1) of the tokens that share a character with text[begin:end], as transformers counts them for
        masks of the assistant's tokens; both the same where none does."""
        first = bisect_right(self.offsets, begin, key=itemgetter(1))
        return first, max(first, bisect_left(self.offsets, end, key=itemgetter(0)))


@dataclass(frozen=True)
class Rendered:
    """A text that is to be tokenised."""

    text: str
    conversation: Conversation
    """What it says."""
    again: Callable[[Conversation], str]
    """Writes it once more, of another conversation in the place of this one."""


class ChatTokens:
    """A tokenizer that finds special tokens in what a template writes and nowhere else."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises DataError for a tokenizer that does not say where tokens lie."""
        if not getattr(tokenizer, "is_fast", False):
            raise DataError(
                f"tokenizer {tokenizer.name_or_path!r} ({type(tokenizer).__name__}) does not say where in a text its "
                "tokens lie, so what is trained of a conversation cannot be told: use a model whose tokenizer is a "
                "fast one (tokenizer.json), or data.chat_template: none"
            )
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.special = frozenset({*tokenizer.all_special_ids, *(id for id, token in added.items() if token.special)})
        """Ids of special tokens, which only templates write."""
        self.added = frozenset(added)
        """Ids of tokens beside the vocabulary, special or not."""
        self.eos = tokenizer.eos_token_id
        self._no_text = special_ids(tokenizer)
        names = {str(tokenizer.convert_ids_to_tokens(id)) for id in self.special}
        self._names = names_pattern(names)

    def read(self, rendered: Rendered) -> Tokens:
        """The tokens of a text. Raises DataError for special tokens in its messages that cannot be told from those of
        the template."""
        return self.as_text(rendered, *self.whole([rendered.text]))

    def whole(self, texts: Sequence[str], **how: Any) -> list[Tokens]:
        """The tokens of each text, all special tokens in it read as such."""
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False, **how
        )
        return list(map(Tokens, encoded["input_ids"], encoded["offset_mapping"]))

    def as_text(self, rendered: Rendered, whole: Tokens) -> Tokens:
        """The tokens of a text of which `whole` are those that `whole` gives: the same unless its messages spell
        special tokens. Raises DataError as `read`."""
        conversation = rendered.conversation
        said = _strings([*conversation.messages, conversation.tools, conversation.options])
        return self._with_markup(rendered) if self._names.search("\0".join(said)) else whole

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens without special ones, as answers are read."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _with_markup(self, one: Rendered) -> Tokens:
        """Of a conversation whose texts spell special tokens: it is written again with words in their place, which
        shows where in the text they are."""
        words: dict[str, str] = {}
        taken = one.text

        def word(match: re.Match[str]) -> str:
            if match[0] not in words:
                number = len(words)
                while (new := f"Zq{number}xQz") in taken:
                    number += 1000
                words[match[0]] = new
            return words[match[0]]

        masked = one.again(_changed(one.conversation, lambda text: self._names.sub(word, text)))
        back = {new: name for name, new in words.items()}
        places = re.compile("|".join(map(re.escape, back)))

        def restored(text: str) -> str:
            return places.sub(lambda match: back[match[0]], text)

        if restored(masked) != one.text:
            names = ", ".join(map(repr, words))
            raise DataError(
                f"its messages spell special tokens of the tokenizer ({names}), and the chat template changes them, so "
                "that they cannot be told from its own: take them out of the data"
            )
        return self.piecewise(masked, restored)

    def piecewise(self, masked: str, restored: Callable[[str], str]) -> Tokens:
        """The tokens of `restored(masked)`, in which the special tokens of `masked` are special and all else is text.

        Pieces that `restored` does not change keep the tokens that they have in `masked`. Raises DataError where a
        piece cannot be tokenised by itself.
        """
        (whole,) = self.whole([masked])
        ids: list[int] = []
        offsets: list[Span] = []
        here = 0  # in the restored text
        for (begin, end), (first, last) in self._pieces(masked, whole, restored):
            piece, tokens = masked[begin:end], Tokens(whole.ids[first:last], whole.offsets[first:last])
            text, start = restored(piece), begin
            if text != piece:
                tokens, start = self._as_text(piece, tokens.ids, text), 0
            ids += tokens.ids
            offsets += [(a - start + here, b - start + here) for a, b in tokens.offsets]
            here += len(text)
        return Tokens(ids, offsets)

    def _pieces(self, masked: str, whole: Tokens, restored: Callable[[str], str]) -> Iterator[tuple[Span, Span]]:
        """(characters, tokens) of each special token and of what lies between them."""
        here = first = 0
        for index, (token, (begin, end)) in enumerate(zip(whole.ids, whole.offsets, strict=True)):
            # An unknown token may be special and stand for any word, and those of bytes for parts of a character.
            if token in self.special and begin >= here and restored(masked[begin:end]) == masked[begin:end]:
                yield (here, begin), (first, index)
                yield (begin, end), (index, index + 1)
                here, first = end, index + 1
        yield (here, len(masked)), (first, len(whole.ids))

    def _as_text(self, piece: str, known: list[int], text: str) -> Tokens:
        """The tokens of `text`, none of them special. `known`: those of `piece`, which differs from it in words alone,
        where it stands."""
        for before in BEFORE:
            if (alone := self._after(before, piece)) is None or alone.ids != known:
                continue
            found = self._after(before, text)
            if found is not None and not self._no_text.intersection(found.ids):
                return found
        raise DataError(
            f"tokenizer {self._tokenizer.name_or_path!r} cannot read special tokens that the data spell as plain text: "
            f"take them out of the data ({text[:200]!r})"
        )

    def _after(self, before: str, text: str) -> Tokens | None:
        """The tokens of `text` where it follows `before`; None where a token is of both."""
        (both,) = self.whole([before + text], split_special_tokens=True)
        border = len(before)
        first = sum(end <= border for _, end in both.offsets) if before else 0
        rest = Tokens(both.ids[first:], [(begin - border, end - border) for begin, end in both.offsets[first:]])
        return None if any(begin < 0 for begin, _ in rest.offsets) else rest


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def changed_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The value with all its texts changed: keys, items and those in them."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {changed_texts(key, change): changed_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [changed_texts(item, change) for item in value]
    return value


def _changed(conversation: Conversation, change: Callable[[str], str]) -> Conversation:
    tools = conversation.tools
    return replace(
        conversation,
        messages=tuple(changed_texts(conversation.messages, change)),
        tools=None if tools is None else tuple(changed_texts(tools, change)),
        options=changed_texts(conversation.options, change),
    )
