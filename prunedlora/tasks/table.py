"""The rows of one data source as its reader found them, before templates make texts of them. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunedlora.tasks.data_error import DataError

NARROW_FLOATS = {"float16": np.float16, "float32": np.float32}
"""Python widens them: 1.1 in float32 would be 1.100000023841858. numpy's print the shortest text of their own type."""


@dataclass(frozen=True)
class Table:
    """Rows by number and columns by name."""

    column_names: list[str]
    num_rows: int
    take: Callable[[Sequence[int], Sequence[str]], dict[str, list[Any]]]
    """(rows, columns) → column → the values of these rows, in the order asked for. Raises DataError for a class
    label without a name."""


def from_dataset(dataset: Any) -> Table:
    """A `datasets.Dataset` as a table, names in the place of numbers where it declares class labels."""

    def take(rows: Sequence[int], columns: Sequence[str]) -> dict[str, list[Any]]:
        values = dataset.select(rows).select_columns(list(columns))[:]
        return {name: _own_type(dataset.features[name], values[name], rows) for name in columns}

    return Table(list(dataset.column_names), dataset.num_rows, take)


def part_of(table: Table, split: str) -> Table:
    """The part that a split with slices means, like `train[:100]` or `train[:10%]+train[-10:]`, as `datasets` has it.

    Raises ValueError for slices that cannot be read or lie outside of the table.
    """
    from datasets import ReadInstruction  # a second of imports

    name = split.partition("[")[0]
    slices = ReadInstruction.from_spec(split).to_absolute({name: table.num_rows})
    kept = [row for piece in slices for row in range(piece.from_, piece.to)]
    return Table(table.column_names, len(kept), lambda rows, columns: table.take([kept[row] for row in rows], columns))


def _own_type(feature: Any, values: list[Any], rows: Sequence[int]) -> list[Any]:
    if hasattr(feature, "int2str"):
        for row, value in zip(rows, values, strict=True):
            if value is None or value < 0:
                raise DataError(f"row {row} has no label (a test split without labels?)")
        return list(feature.int2str(values))
    values = [_without_absent(value) for value in values]
    narrow = NARROW_FLOATS.get(getattr(feature, "dtype", ""))
    return values if narrow is None else [None if value is None else narrow(value) for value in values]


def _without_absent(value: Any) -> Any:
    """The value without keys of objects whose value is None: Arrow has every key in every object of a column, and
    cannot tell null from absent."""
    if isinstance(value, dict):
        return {key: _without_absent(entry) for key, entry in value.items() if entry is not None}
    return [_without_absent(entry) for entry in value] if isinstance(value, list) else value
