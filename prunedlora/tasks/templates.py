"""Templates that make a prompt or a target from the columns of a row: "Question: {question}\\nAnswer:".

Braces hold a column's name and nothing else (no attributes, indices, conversions or formats); doubled braces stand for
themselves. So a template cannot run code, and a column may be called anything but must not hold `:`, `!` or braces.
"""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter
from typing import Any

import numpy as np

from prunedlora.tasks.data_error import DataError


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    text: str
    pieces: tuple[tuple[str, str | None], ...]
    """(literal text, column that follows it or None at the end)."""

    @property
    def columns(self) -> list[str]:
        """The columns it needs, each once, in order of appearance."""
        return list(dict.fromkeys(column for _, column in self.pieces if column is not None))

    @property
    def literals(self) -> tuple[str, ...]:
        """Its own text, piece by piece, without what comes from columns."""
        return tuple(literal for literal, _ in self.pieces if literal)

    def fill(self, row: Mapping[str, Any]) -> str:
        """The text for one row. Raises DataError for a value that is missing or that has no text."""
        parts = []
        for literal, column in self.pieces:
            parts.append(literal)
            if column is not None:
                parts.append(text_of(row[column], f"column {column!r}"))
        filled = "".join(parts)
        if not filled.strip():
            raise DataError(f"template {self.text!r} gives an empty text")
        return filled


def parse(text: str) -> Template:
    """The parsed template. Raises DataError when it has no column, more than a column's name in its braces, or
    halves of characters."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise DataError(f"template {text!r} is malformed: {error}; write {{{{ and }}}} for braces") from error
    if problem := half_character(text):
        raise DataError(f"template {text!r} holds {problem}")
    pieces: list[tuple[str, str | None]] = []
    for literal, column, form, conversion in parsed:
        if column == "" or form or conversion:
            raise DataError(f"template {text!r}: braces must hold a column name and nothing else")
        pieces.append((literal, column))
    if all(column is None for _, column in pieces):
        raise DataError(f"template {text!r} names no column; write one in braces, like {{question}}")
    return Template(text, tuple(pieces))


def half_character(text: str) -> str:
    """What is wrong with text that UTF-8 cannot hold; empty where it can. JSON may write such halves as \\ud83d."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{text[error.start]!r} at character {error.start}, half of a character (a surrogate without the other)"
    return ""


def text_of(value: Any, where: str) -> str:
    """The text of a value: as Python prints it, but for truth values (as JSON and the Hub's pages show them: true) and
    decimals (digits, never an exponent). Raises DataError, which begins with `where`: it is missing, or has no text."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        raise DataError(f"{where} has no value")
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            if problem := half_character(value):
                raise DataError(f"{where} holds {problem}")
            return str(value)
        case int() | float() | np.floating() | datetime.date() | datetime.time():
            return str(value)
        case Decimal():
            return format(value, "f")
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise DataError(f"{where} holds bytes that are no text in UTF-8: {error}") from error
    kind = type(value).__name__
    raise DataError(f"{where} holds a {kind}; a text is made of text and numbers, dates and times")
