"""Text → tokens, where the data's text is text: "</s>" or "[SEP]" in it are characters, not the tokens of that name.

Special tokens come from two places only: from the tokenizer itself (beginning, separator, end), and from the template
of the prompt, where the configuration writes them out ("{premise} [SEP] {hypothesis}").
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.data_error import DataError

SHOWN_CHARACTERS = 200


class PlainText:
    """A tokenizer that finds no special tokens in the data."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, add_special_tokens: bool) -> None:
        """`add_special_tokens`: whether the tokenizer puts its own around each text."""
        self._tokenizer = tokenizer
        self._add = add_special_tokens
        self._special = special_ids(tokenizer)
        self._names = names_pattern(map(str, tokenizer.convert_ids_to_tokens(sorted(self._special))))
        self._own = self._found(tokenizer("")["input_ids"]) if add_special_tokens else []
        self._meant: dict[tuple[str, ...], tuple[int, ...]] = {(): ()}

    def ids(self, texts: Sequence[str], literals: Sequence[tuple[str, ...]]) -> list[list[int]]:
        """Tokens of each text. `literals`: what is not data in it, the template's own pieces.

        Raises DataError for a text whose special tokens are not just the tokenizer's and the template's.
        """
        rows: list[list[int]] = [[]] * len(texts)
        for indices, meant in self._groups(literals):
            encoded = self._encode([texts[index] for index in indices], meant)
            for index, row in zip(indices, encoded, strict=True):
                self._check(texts[index], row, meant)
                rows[index] = row
        return rows

    def spelt(self, text: str) -> str | None:
        """The first special token that a text spells; None where it spells none."""
        found = self._names.search(text)
        return found and found[0]

    def shortened(self, text: str, literals: tuple[str, ...], max_length: int) -> list[int]:
        """Tokens of a text that `ids` has passed, cut to `max_length` where the tokenizer says."""
        (row,) = self._encode([text], self.meant(literals), truncation=True, max_length=max_length)
        return row

    def meant(self, literals: tuple[str, ...]) -> tuple[int, ...]:
        """Ids of the special tokens that a template's own pieces hold, as often as they do.

        Raises DataError where that is the unknown token, which stands for any text that a vocabulary lacks.
        """
        if literals not in self._meant:
            unknown = self._tokenizer.unk_token
            if self._tokenizer.unk_token_id not in self._special and any(
                unknown in piece for piece in literals if unknown
            ):
                raise DataError(f"the template holds the tokenizer's unknown token {unknown!r}: write it without")
            encoded = self._tokenizer(list(literals), add_special_tokens=False, verbose=False)["input_ids"]
            self._meant[literals] = tuple(token for row in encoded for token in self._found(row))
        return self._meant[literals]

    def _groups(self, literals: Sequence[tuple[str, ...]]) -> Iterator[tuple[list[int], tuple[int, ...]]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, pieces in enumerate(literals):
            groups.setdefault(self.meant(pieces), []).append(index)
        for meant, indices in groups.items():
            yield indices, meant

    def _encode(self, texts: list[str], meant: tuple[int, ...], **options: Any) -> list[list[int]]:
        if not meant and not _is_mistral_common(self._tokenizer):
            options["split_special_tokens"] = True
        encoded = self._tokenizer(texts, add_special_tokens=self._add, verbose=False, **options)
        rows: list[list[int]] = encoded["input_ids"]
        return rows

    def _found(self, row: Sequence[int]) -> list[int]:
        return list(filter(self._special.__contains__, row))

    def _check(self, text: str, row: list[int], meant: tuple[int, ...]) -> None:
        found = self._found(row)
        if sorted(found) == sorted([*self._own, *meant]):
            # Special tokens alone: the data may say an ordinary word twice.
            if meant and any(one == other and one in self._own for one, other in (row[:2], row[-2:])):
                raise DataError(
                    f"the template begins or ends with a special token that the tokenizer adds: {_short(text)}"
                )
            return
        spelt = sorted(Counter(found) - Counter([*self._own, *meant])) or found
        names = ", ".join(map(repr, self._tokenizer.convert_ids_to_tokens(spelt)))
        if meant:
            raise DataError(
                f"special tokens of the template cannot be told from those that the data spell ({names}): "
                f"write the template without them, or take them out of the data: {_short(text)}"
            )
        raise DataError(
            f"tokenizer {self._tokenizer.name_or_path!r} cannot read {names} as plain text, take it out of the data: "
            f"{_short(text)}"
        )


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that no text of the data may become. Not the unknown token's, unless it has another meaning as well: any text
    may hold what a vocabulary lacks."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    ids = {*tokenizer.all_special_ids, *(token_id for token_id, token in added.items() if token.special)}
    unknown = tokenizer.unk_token_id
    if unknown not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id):
        ids.discard(unknown)
    return frozenset(ids)


def names_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Finds names of tokens in a text; of those that begin alike the longest."""
    ordered = sorted(set(names), key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered)) or "(?!)")


def _is_mistral_common(tokenizer: PreTrainedTokenizerBase) -> bool:
    """These never read special tokens out of a text, and refuse to be told so."""
    return type(tokenizer).__name__.startswith("MistralCommon")


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
