"""One row of a source, by the standard names of its format. No torch, no tokenizer here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.rows.nested_values import is_nothing
from prunedlora.tasks.templates import text_of


@dataclass(frozen=True)
class Names:
    """What a source's rows call things, where they do not use the standard names."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Standard name of a column or of a message's key → the source's own."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """The source's name of a role → the standard one."""

    def of(self, standard: str) -> str:
        """What the rows call it."""
        return self.fields.get(standard, standard)


@dataclass(frozen=True)
class Row:
    """The values of a row. What it raises begins with the column: the caller puts dataset and row before it."""

    values: Mapping[str, Any]
    """The source's name of a column → the value."""
    names: Names
    system: str | None = None
    """System prompt for a conversation that has none of its own."""

    def where(self, column: str) -> str:
        """The column in the source's words, as messages begin."""
        return f"column {self.names.of(column)!r}"

    def get(self, column: str) -> Any:
        """The value of a column; None where it is empty or the source has no such column."""
        value = self.values.get(self.names.of(column))
        return None if is_nothing(value) else value

    def text(self, column: str) -> str:
        """The text of a column, as templates would print it. Raises DataError where it is missing or blank, and for
        what has no text."""
        text = text_of(self.get(column), self.where(column))
        if not text.strip():
            raise DataError(f"{self.where(column)}: is an empty text")
        return text

    def text_or_none(self, column: str) -> str | None:
        """The same, None where it is missing or blank."""
        value = self.get(column)
        text = "" if value is None else text_of(value, self.where(column))
        return text if text.strip() else None
