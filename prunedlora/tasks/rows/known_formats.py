"""Which format the rows of a source have: the named one, or the one that their columns fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.alpaca import ALPACA
from prunedlora.tasks.rows.input_output import INPUT_OUTPUT
from prunedlora.tasks.rows.messages import MESSAGES
from prunedlora.tasks.rows.prompt_completion import PROMPT_COMPLETION
from prunedlora.tasks.rows.row import Names, Row
from prunedlora.tasks.rows.row_format import RowFormat
from prunedlora.tasks.rows.sharegpt import SHAREGPT
from prunedlora.tasks.rows.text import TEXT

ROW_FORMATS = {known.name: known for known in (MESSAGES, SHAREGPT, PROMPT_COMPLETION, ALPACA, INPUT_OUTPUT, TEXT)}
PREFERENCES = (("chosen", "rejected"), ("prompt", "completion", "label"))
"""Columns of TRL's preference rows: pairs, and single answers that were liked or not."""


@dataclass(frozen=True)
class RowReader:
    """Makes examples of the rows of one source."""

    format: RowFormat
    columns: list[str]
    """Those of the source that it reads."""
    names: Names
    system: str | None

    def read(self, values: Mapping[str, Any]) -> Example:
        """The example of a row, given as column → value. Raises DataError, whose message begins with the column."""
        return self.format.read(Row(values, self.names, self.system))


def possible_columns(names: Names) -> list[str]:
    """The columns that rows of any format may be made of, by the source's names of them."""
    return list(dict.fromkeys(names.of(column) for known in ROW_FORMATS.values() for column in known.columns))


def row_reader(named: str | None, columns: Sequence[str], names: Names, system: str | None) -> RowReader:
    """The reader of rows with these columns, of the format that is named or that they fit.

    Raises DataError: columns that fit none or several formats, or preferences; a name of `fields` that the format has
    not; a column that it needs, or that `fields` names, and that is not there; a system prompt, or names of roles, for
    rows that have neither.
    """
    row_format = _known(columns, names) if named is None else ROW_FORMATS[named]
    own = row_format.standard_names
    if unknown := [name for name in names.fields if name not in own]:
        raise DataError(
            f"fields: format {row_format.name!r} has no {', '.join(map(repr, unknown))}; it has: {', '.join(own)}"
        )
    asked = [column for column in row_format.columns if column in row_format.required or column in names.fields]
    if missing := [names.of(column) for column in asked if names.of(column) not in columns]:
        raise DataError(
            f"format {row_format.name!r} needs column {', '.join(missing)}, which is not there; the columns are: "
            f"{', '.join(columns)} (fields: gives other names)"
        )
    if system is not None and not row_format.has_system:
        raise DataError(f"system has no effect on rows of format {row_format.name!r}, which are no conversations")
    if names.roles and "role" not in row_format.keys:
        raise DataError(f"roles has no effect on rows of format {row_format.name!r}, whose texts say no roles")
    there = [names.of(column) for column in row_format.columns if names.of(column) in columns]
    return RowReader(row_format, there, names, system)


def _known(columns: Sequence[str], names: Names) -> RowFormat:
    every = dict.fromkeys(name for known in ROW_FORMATS.values() for name in known.standard_names)
    if unknown := [name for name in names.fields if name not in every]:
        raise DataError(f"fields: no format has {', '.join(map(repr, unknown))}; there are: {', '.join(every)}")
    fitting = [
        known
        for known in ROW_FORMATS.values()
        if all(names.of(column) in columns for column in known.required)
        and all(name in known.standard_names for name in names.fields)
    ]
    if len(fitting) > 1:
        fitting = [
            known for known in fitting if known is not TEXT
        ]  # beside the columns of others it is one more column
    ways = " or ".join(f"format: {known.name}" for known in fitting)
    for preference in PREFERENCES:
        if all(column in columns for column in preference):
            instead = f"; to train on the answers alone, say {ways}" if fitting else ""
            raise DataError(
                f"columns {', '.join(preference)} are preferences, which sweeps do not train on; TRL's DPOTrainer "
                f"does, and PrunedLoraCallback works in it{instead}"
            )
    if len(fitting) > 1:
        raise DataError(
            f"the columns ({', '.join(columns)}) fit {len(fitting)} formats: "
            f"{', '.join(known.name for known in fitting)}; say which: {ways}"
        )
    if not fitting:
        known = "; ".join(f"{known.name} ({', '.join(known.required)})" for known in ROW_FORMATS.values())
        raise DataError(
            f"the columns ({', '.join(columns)}) fit no format; known by their columns are: {known}. Say what the file "
            "calls them as fields, or give prompt and target as templates"
        )
    return fitting[0]
