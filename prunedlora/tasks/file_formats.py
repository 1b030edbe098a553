"""What a local file of rows holds: csv, tsv, json, jsonl (each also as .gz) and parquet, by its name.

Read here and not through `datasets`: that library takes a path for a pattern, keeps what it read and looks at a file's
time to see whether it changed, and gives the cells of a csv the types it guesses from each block of 10,000 rows.
"""

import csv
import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.table import Table, from_dataset

_SPACE = re.compile(r"[ \t\n\r]*")
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, csv.Error, zlib.error)
"""What the readers raise for a file that is not what its name says; Arrow's errors are among them."""


def split_name(file: Path) -> tuple[str, str]:
    """(name without its endings, format): `train.CSV.gz` is ("train", ".csv"); format "" for what is not read."""
    name = file.name
    if name.lower().endswith(".gz"):
        name = name[: -len(".gz")]
    stem, dot, ending = name.rpartition(".")
    known = f"{dot}{ending}".lower()
    if not stem or known not in FORMATS or (known == ".parquet" and name != file.name):
        return file.name, ""
    return stem, known


def read_table(file: Path) -> Table:
    """All rows of a file. Raises DataError for a table that is malformed, and one of UNREADABLE."""
    opened = gzip.open if file.name.lower().endswith(".gz") else Path.open
    with cast(BinaryIO, opened(file, "rb")) as content:
        table = FORMATS[split_name(file)[1]](content)
    if twice := [name for name, number in Counter(table.column_names).items() if number > 1]:
        raise DataError(f"several columns are called {twice[0]!r}")
    return table


def _read_csv(file: BinaryIO, delimiter: str) -> Table:
    """Every cell is the text that it is: 01, 1.10, true and NA are no numbers, and an empty cell is an empty text."""
    csv.field_size_limit(sys.maxsize)  # Python's own limit is 131,072 characters; documents are longer
    text = TextIOWrapper(file, "utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header = next((cells for cells in reader if cells), [])
    columns: list[list[str]] = [[] for _ in header]
    for cells in reader:
        if cells and len(cells) != len(header):
            raise DataError(f"line {reader.line_num} has {len(cells)} cells, the header has {len(header)}")
        for column, cell in zip(columns, cells, strict=False):  # an empty line has no cells
            column.append(cell)
    number = len(columns[0]) if columns else 0
    by_name = dict(zip(header, columns, strict=True))
    return Table(header, number, lambda rows, names: {name: [by_name[name][row] for row in rows] for name in names})


def _read_json(file: BinaryIO) -> Table:
    """One list of objects, or objects one after another. A number is the text that it is: 1.10 and 1e3 stay so."""
    text = file.read().decode("utf-8-sig")
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    found: list[Any] = []
    position = _after_space(text, 0)
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        found.append(value)
        position = _after_space(text, position)
    objects = found[0] if len(found) == 1 and isinstance(found[0], list) else found
    for row, value in enumerate(objects):
        if not isinstance(value, dict):
            raise DataError(f"row {row} is no object: {json.dumps(value)[:80]}")
    names = list(dict.fromkeys(name for row in objects for name in row))
    return Table(
        names,
        len(objects),
        lambda rows, names: {name: [objects[row].get(name) for row in rows] for name in names},
    )


def _after_space(text: str, position: int) -> int:
    return cast(re.Match[str], _SPACE.match(text, position)).end()


def _read_parquet(file: BinaryIO) -> Table:
    import pyarrow.parquet  # type: ignore[import-untyped]  # these two take a second
    from datasets import Dataset

    table = pyarrow.parquet.ParquetFile(file).read()

    def take(rows: Sequence[int], columns: Sequence[str]) -> dict[str, list[Any]]:
        try:
            wanted = Dataset(table.select(columns))  # the others may have any type
        except (ValueError, NotImplementedError) as error:
            raise DataError(f"columns {', '.join(columns)} hold what cannot be read: {error}") from error
        return from_dataset(wanted).take(rows, columns)

    return Table(table.column_names, table.num_rows, take)


FORMATS: dict[str, Callable[[BinaryIO], Table]] = {
    ".csv": partial(_read_csv, delimiter=","),
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
    ".tsv": partial(_read_csv, delimiter="\t"),
}
