"""What a local file of rows holds: csv, tsv, json, jsonl, txt (each also as .gz and .zst), parquet and Arrow's own, by
its name.

Read here and not through `datasets`: that library takes a path for a pattern, keeps what it read and looks at a file's
time to see whether it changed, and gives the cells of a csv the types it guesses from each block of 10,000 rows.
"""

import codecs
import csv
import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.number_text import NumberText
from prunedlora.tasks.table import Table, from_dataset
from prunedlora.tasks.templates import half_character

QUOTES = (
    'a cell that begins with " ends at the next " that is not doubled; where such quotes are text, double them and '
    'put the cell in quotes ("""Hi"" he said"), or write the rows as jsonl'
)
NOT_IN_TSV = r"[\t\n\r]"
_SPACE = re.compile(r"[ \t\n\r]*")
PACKED = (".gz", ".zst")
BINARY = (".arrow", ".feather", ".parquet")
"""Formats that are packed in themselves."""
ARROW_FILE = b"ARROW1"
"""What Arrow's files begin with; its streams begin otherwise."""
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error)
"""What the readers raise for a file that is not what its name says; Arrow's errors are among them."""


def split_name(file: Path) -> tuple[str, str]:
    """(name without its endings, format): `train.CSV.gz` is ("train", ".csv"); format "" for what is not read."""
    name = file.name
    if packed := next((ending for ending in PACKED if name.lower().endswith(ending)), ""):
        name = name[: -len(packed)]
    stem, dot, ending = name.rpartition(".")
    known = f"{dot}{ending}".lower()
    if not stem or known not in FORMATS or (known in BINARY and name != file.name):
        return file.name, ""
    return stem, known


@dataclass(frozen=True)
class Reading:
    """How a file of text is to be read, where its name and first line do not say it; None: as they do."""

    delimiter: str | None = None
    """Between the cells of a csv or tsv."""
    encoding: str | None = None
    """Of anything but parquet and Arrow's own; None: UTF-8."""
    column_names: tuple[str, ...] | None = None
    """Of a csv or tsv whose first line is a row already."""

    def unused(self, ending: str) -> list[str]:
        """What is given and has no effect on a file of this format; "" for data that are no file."""
        used = {"encoding"} if ending in (".json", ".jsonl", ".txt") else set()
        if ending in (".csv", ".tsv"):
            used = {"delimiter", "encoding", "column_names"}
        return [name for name, value in vars(self).items() if value is not None and name not in used]


AS_NAMED = Reading()


def read_table(file: Path, reading: Reading = AS_NAMED) -> Table:
    """All rows of a file. Raises DataError for a table that is malformed, and one of UNREADABLE; `take` of the table
    raises DataError for a name that several columns have. Where nobody asks for them they may be: a spreadsheet writes
    its empty columns as columns without a name."""
    try:
        table = FORMATS[split_name(file)[1]](file, reading)
    except UnicodeDecodeError as error:
        raise DataError(_not_in(file, reading)) from error
    numbers = Counter(table.column_names)

    def take(rows: Sequence[int], columns: Sequence[str]) -> dict[str, list[Any]]:
        if twice := [name for name in columns if numbers[name] > 1]:
            raise DataError(f"several columns are called {twice[0]!r}")
        return table.take(rows, columns)

    return replace(table, take=take)


def _open(file: Path) -> BinaryIO:
    match next((ending for ending in PACKED if file.name.lower().endswith(ending)), None):
        case ".gz":
            return cast(BinaryIO, gzip.open(file))
        case ".zst":
            import pyarrow  # type: ignore[import-untyped]  # half a second

            return cast(BinaryIO, BufferedReader(pyarrow.input_stream(str(file), compression="zstd")))
    return file.open("rb")


def _encoding(reading: Reading) -> str:
    """A mark at the beginning of UTF-8, which spreadsheets write, is no part of the first cell."""
    given = reading.encoding or "utf-8"
    return "utf-8-sig" if codecs.lookup(given).name == "utf-8" else given


def _not_in(file: Path, reading: Reading) -> str:
    """Where a file is not in its encoding, and how the text there would read in others."""
    with _open(file) as opened:
        content = opened.read()
    encoding = _encoding(reading).removesuffix("-sig")
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        start, byte = error.start, content[error.start]
    guesses = ["utf-16"] if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ["utf-8", "cp1252"]
    around = content[max(0, start - 20) : start + 20]
    if guesses == ["utf-16"]:
        around = content[:40]
    shown = [f"{guess} would read {around.decode(guess, 'replace')!r} there" for guess in guesses if guess != encoding]
    line = content[:start].decode(encoding, "replace").count("\n") + 1
    return f"byte {start} ({byte:#04x}), in line {line}, is not {encoding}; {', '.join(shown)}: say it as encoding"


def _read_csv(file: Path, reading: Reading) -> Table:
    """Every cell is the text that it is: 01, 1.10, true and NA are no numbers, and an empty cell is an empty text.

    Quotes are those of csv (RFC 4180) in a tsv too, as spreadsheets write both. Many tsv files of text corpora know no
    quotes: one that stands at the beginning of a cell would join cells and rows up to the next one. So no cell of a tsv
    may hold a tab or a line break.
    """
    delimiter = reading.delimiter or ("\t" if split_name(file)[1] == ".tsv" else ",")
    csv.field_size_limit(sys.maxsize)  # Python's own limit is 131,072 characters; documents are longer
    with _open(file) as content:
        reader = csv.reader(TextIOWrapper(content, _encoding(reading), newline=""), delimiter=delimiter, strict=True)
        rows = _rows(reader, delimiter)
        named = "the header" if reading.column_names is None else "column_names"
        header = list(reading.column_names or next((cells for cells in rows if cells), []))
        columns: list[list[str]] = [[] for _ in header]
        for cells in rows:
            if cells and len(cells) != len(header):
                raise DataError(f"line {reader.line_num} has {len(cells)} cells, {named} has {len(header)}")
            for column, cell in zip(columns, cells, strict=False):  # an empty line has no cells
                column.append(cell)
    number = len(columns[0]) if columns else 0
    by_name = dict(zip(header, columns, strict=True))  # of several columns of one name nobody is given any
    return Table(header, number, lambda rows, names: {name: [by_name[name][row] for row in rows] for name in names})


def _rows(reader: Any, delimiter: str) -> Iterator[list[str]]:
    """Rows of a `csv.reader`. Raises DataError, which names the line that a row begins in, for quotes that are none."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"the row that begins in line {line} cannot be read ({error}): {QUOTES}") from error
        if delimiter == "\t" and any(re.search(NOT_IN_TSV, cell) for cell in cells):
            raise DataError(f"the row that begins in line {line} has a cell with a tab or a line break: {QUOTES}")
        yield cells


def _read_json(file: Path, reading: Reading) -> Table:
    """One list of objects, or objects one after another. A number is the text that it is: 1.10 and 1e3 stay so."""
    with _open(file) as content:
        text = content.read().decode(_encoding(reading))
    decoder = json.JSONDecoder(parse_int=NumberText, parse_float=NumberText)
    found: list[Any] = []
    position = _after_space(text, 0)
    while position < len(text):
        value, position = _decoded(decoder, text, position)
        found.append(value)
        position = _after_space(text, position)
    objects = found[0] if len(found) == 1 and isinstance(found[0], list) else found
    for row, value in enumerate(objects):
        if not isinstance(value, dict):
            raise DataError(f"row {row} is no object: {json.dumps(value)[:80]}")
    names = list(dict.fromkeys(name for row in objects for name in row))
    if problem := next(filter(None, map(half_character, names)), ""):
        raise DataError(f"it has a column whose name holds {problem}")
    if len(found) == 1 and objects is found and _is_columns(found[0]):
        raise DataError(
            f"it is one object that has a list for each column ({', '.join(names)}); write a list of objects, one for "
            "each row, or one object per line"
        )
    return Table(
        names,
        len(objects),
        lambda rows, names: {name: [objects[row].get(name) for row in rows] for name in names},
    )


def _decoded(decoder: json.JSONDecoder, text: str, position: int) -> tuple[Any, int]:
    """The value that begins at a position, and where it ends. Raises DataError, which says where what is broken begins:
    often the line before that in which it shows."""
    try:
        return decoder.raw_decode(text, position)
    except (json.JSONDecodeError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        problem = "has lists and objects too deep inside one another" if deep else f"is no whole JSON: {error}"
        raise DataError(f"what begins in line {text.count(chr(10), 0, position) + 1} {problem}") from error


def _is_columns(value: dict[str, Any]) -> bool:
    """Whether an object has lists of cells in the place of one row's, as pandas and `datasets` write with "list"."""
    cells = list(value.values())
    return bool(cells) and all(
        isinstance(each, list) and each and not any(isinstance(entry, dict) for entry in each) for each in cells
    )


def _after_space(text: str, position: int) -> int:
    return cast(re.Match[str], _SPACE.match(text, position)).end()


def _read_text(file: Path, reading: Reading) -> Table:
    """Every line is a row with the one column `text`, but a blank one, which has nothing to read or learn; a line ends
    with \\n, \\r\\n or \\r."""
    with _open(file) as content:
        lines = [line.removesuffix("\n") for line in TextIOWrapper(content, _encoding(reading)) if line.strip()]
    return Table(["text"], len(lines), lambda rows, names: {name: [lines[row] for row in rows] for name in names})


def _read_parquet(file: Path, _: Reading) -> Table:
    """Only the columns that are asked for are read; the others may be large, and of any type."""
    import pyarrow.parquet  # type: ignore[import-untyped]  # a second

    opened = pyarrow.parquet.ParquetFile(file)

    def read(columns: Sequence[str]) -> Any:
        return opened.read(columns).select(columns)  # parts of nested columns have a dot in their names

    return Table(opened.schema_arrow.names, opened.metadata.num_rows, partial(_take_arrow, read))


def _read_arrow(file: Path, _: Reading) -> Table:
    """Arrow's file format (Feather, and what `datasets` keeps its data in) and its stream format, which `datasets`
    writes."""
    import pyarrow

    with file.open("rb") as begin:
        is_file = begin.read(len(ARROW_FILE)) == ARROW_FILE
    try:
        opened = pyarrow.memory_map(str(file))
        table = (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(opened).read_all()
    except UNREADABLE as error:
        raise DataError(
            f"it is no whole file of Arrow's file or stream format ({type(error).__name__}: {error})"
        ) from error
    return Table(table.column_names, table.num_rows, partial(_take_arrow, table.select))


def _take_arrow(
    read: Callable[[Sequence[str]], Any], rows: Sequence[int], columns: Sequence[str]
) -> dict[str, list[Any]]:
    """`read`: columns → Arrow's table of them. As `Table.take`."""
    from datasets import Dataset  # a second

    try:
        wanted = Dataset(read(list(columns)))
    except UNREADABLE as error:
        raise DataError(f"columns {', '.join(columns)} cannot be read: {error}") from error
    return from_dataset(wanted).take(rows, columns)


FORMATS: dict[str, Callable[[Path, Reading], Table]] = {
    ".arrow": _read_arrow,
    ".csv": _read_csv,
    ".feather": _read_arrow,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
    ".tsv": _read_csv,
    ".txt": _read_text,
}
KNOWN_ENDINGS = (
    f"known: {', '.join(FORMATS)}; all but {', '.join(BINARY[:-1])} and {BINARY[-1]} also with {' or '.join(PACKED)}"
)
"""For messages."""
