"""Where the splits of named data are, and some of their rows; before anything is known of what they are for."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from prunedlora.config.source_section import SourceConfig
from prunedlora.sweep.init_error import InitError
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import AS_NAMED, Reading, split_name
from prunedlora.tasks.generated_data import GENERATED, generate
from prunedlora.tasks.library_data import load_from_hub
from prunedlora.tasks.local_data import load_local, local_path
from prunedlora.tasks.saved_datasets import SEVERAL
from prunedlora.tasks.table import Table

TRAIN = "train"
VALIDATION, TEST = ("validation", "valid", "val", "dev"), ("test",)
"""What splits are called."""
GENERATED_EXAMPLES, GENERATED_SEED = 4000, 0
MOST_ROWS = 2000
"""That are looked at to see what columns hold."""
SHARD = re.compile(r".+-[0-9]{5}-of-[0-9]{5}")


@dataclass(frozen=True)
class Rows:
    """Data that are there, their columns, and values of some of their rows."""

    sources: Mapping[str, Mapping[str, Any]]
    """Split → fields of its source, without templates; at least train."""
    columns: tuple[str, ...]
    values: Mapping[str, Sequence[Any]]


def find_rows(
    name: str,
    *,
    subset: str | None,
    split: str | None,
    validation: str | None,
    test: str | None,
    reading: Reading = AS_NAMED,
) -> Rows:
    """The rows of train, and the sources of the splits that the data, or others that are named, have of their own.

    `reading`: of its files and of those of `validation` and `test`. With `split` everything is made of that one. Raises
    DataError for data that are not there, cannot be read or have several splits of other names; InitError for a split
    or a subset of what has none, and for a delimiter or an encoding that is none.
    """
    sources: dict[str, Mapping[str, Any]] = {}
    base = {"name": name} | ({} if subset is None else {"subset": subset})
    text = {field: value for field, value in vars(reading).items() if value is not None}
    _check_reading(text)
    if name.startswith(GENERATED):
        options = {"split": split, "subset": subset, **text}
        if given := [f"--{option}" for option, value in options.items() if value is not None]:
            raise InitError(f"{given[0]} has no effect on {name!r}, which is generated; remove it")
        sources[TRAIN] = base | {"seed": GENERATED_SEED, "num_examples": GENERATED_EXAMPLES}
        entries = [entry for entry, _ in generate(name, {}, GENERATED_SEED, min(MOST_ROWS, GENERATED_EXAMPLES))]
        columns = list(entries[0])
        values: dict[str, list[Any]] = {column: [entry[column] for entry in entries] for column in columns}
    else:
        if text and local_path(name) is None:
            raise InitError(f"--{next(iter(text))} has no effect on {name!r}, which is no file here; remove it")
        columns, values, found = _read(name, subset, split, reading)
        base |= text
        sources |= {part: base | ({} if own is None else {"split": own}) for part, own in found.items()}
    for part, other in (("validation", validation), ("test", test)):
        if other is not None:
            sources[part] = {"name": other, **text}
    return Rows(sources, tuple(columns), values)


def _check_reading(text: Mapping[str, str]) -> None:
    """Raises InitError for what no source of a sweep may have."""
    for field, value in text.items():
        try:
            SourceConfig.model_validate({"name": "a file", field: value})
        except ValidationError as error:
            raise InitError(f"--{field} {value!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def _read(
    name: str, subset: str | None, split: str | None, reading: Reading
) -> tuple[list[str], dict[str, list[Any]], dict[str, str | None]]:
    """(columns, column → values of some rows, split → what it is called at the source)."""
    found: dict[str, str | None] = {TRAIN: split}
    try:
        table = _table(name, subset, split, [], reading)
    except DataError:
        names = [] if split is not None else split_names(name, subset)
        if TRAIN not in names:
            raise
        found = {TRAIN: TRAIN}
        for part, known in (("validation", VALIDATION), ("test", TEST)):
            if (own := next((one for one in known if one in names), None)) is not None:
                found[part] = own
        table = _table(name, subset, TRAIN, [], reading)
    if table.num_rows == 0:
        raise InitError(f"dataset {name!r} has no rows")
    table = _table(name, subset, found[TRAIN], table.column_names, reading)
    most = min(table.num_rows, MOST_ROWS)
    # Evenly from first to last: files are often sorted by class.
    rows = [number * table.num_rows // most for number in range(most)]
    return table.column_names, table.take(rows, table.column_names), found


def _table(name: str, subset: str | None, split: str | None, columns: Sequence[str], reading: Reading) -> Table:
    path = local_path(name)
    if path is None:
        return load_from_hub(name, subset, split, None)
    return load_local(path, name, subset, split, None, columns, reading)


def split_names(name: str, subset: str | None) -> list[str]:
    """What the splits of a dataset on the Hub or of a folder are called; empty where nobody can say it, and for a file,
    which is one split."""
    path = local_path(name)
    if path is not None and path.is_file():
        return []
    if path is not None and (path / SEVERAL).is_file():
        return list(json.loads((path / SEVERAL).read_text("utf-8"))["splits"])
    if path is not None:
        stems = [stem for stem, ending in map(split_name, sorted(path.iterdir())) if ending]
        if stems and not any(map(SHARD.fullmatch, stems)):
            return stems
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name if path is None else str(path), subset))
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError):
        # What it is, loading the data has told in better words.
        return []
