"""What a format of rows is: its columns, and how a row becomes an example."""

from collections.abc import Callable
from dataclasses import dataclass

from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.row import Row

MESSAGE_KEYS = ("role", "content", "from", "value")


@dataclass(frozen=True)
class RowFormat:
    """A format that rows come in."""

    name: str
    required: tuple[str, ...]
    """Columns by whose presence it is known."""
    read: Callable[[Row], Example]
    """Raises DataError, whose message begins with the column."""
    optional: tuple[str, ...] = ()
    """Columns that it reads where the source has them."""
    keys: tuple[str, ...] = ()
    """Keys of the objects in its columns."""
    has_system: bool = True
    """Whether its rows are conversations, which a system prompt can begin."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it may read."""
        return self.required + self.optional

    @property
    def standard_names(self) -> tuple[str, ...]:
        """What `fields` may give other names to."""
        return tuple(dict.fromkeys(self.columns + self.keys))
