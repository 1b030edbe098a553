"""Data that the `datasets` library reads: of the Hub, and of local folders laid out like a repository of the Hub."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prunedlora.missing_path import looked_for
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import NOT_IN_TSV, QUOTES, UNREADABLE, read_table, split_name
from prunedlora.tasks.table import Table, from_dataset

MOST_CSV_COLUMNS = 1000
JSON = (".json", ".jsonl")
AS_IT_IS = "give the {} file itself as the data, which is read as it is"


def cell_or_nothing(cell: str) -> str | None:
    """An empty cell is no number and no class label; of text it is an empty one (`_take`)."""
    return cell or None


CSV_AS_TEXT = {"converters": dict.fromkeys(range(MOST_CSV_COLUMNS), str), "na_filter": False}
"""Options of its reader of csv files (pandas, by number of the column) with which every cell is the text that it is."""
CSV_AS_DECLARED = {"converters": dict.fromkeys(range(MOST_CSV_COLUMNS), cell_or_nothing), "na_filter": False}
"""The same where the data's card declares the types: Arrow makes them of the text, and makes none of an empty text."""
UNNAMED_COLUMN = "__index_level_0__"
"""What it makes of first cells that no name stands above; the others then stand under their neighbours' names."""


def load_from_hub(name: str, subset: str | None, split: str | None, revision: str | None) -> Table:
    """A dataset of the Hub. Raises DataError: not found, unknown split, several splits and none named."""
    return _load(name, name, subset, split, {"revision": revision})


def load_folder(folder: Path, name: str, subset: str | None, split: str | None, columns: Sequence[str]) -> Table:
    """A folder laid out like a repository of the Hub, as its files are now. `name` is what messages call it; `columns`
    are those that will be taken, the others are not held in memory. Raises as `load_from_hub`.

    The library gets links to the files in an empty folder, with a cache of its own beside them: it looks at a file's
    time, not at its content, to see whether what it read before is still right, and takes a path for a pattern.
    """
    import datasets

    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if not files:
        raise DataError(f"folder {name!r} holds no file of data")
    cache = Path(datasets.config.HF_DATASETS_CACHE)  # what it reads is written once more: where it would be anyway
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="prunedlora-") as scratch:
            links = Path(scratch, "data")
            for file in files:
                link = links / file.relative_to(folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())
            return _load(name, str(links), subset, split, {"cache_dir": str(Path(scratch, "cache"))}, columns)
    except OSError as error:
        raise DataError(
            f"cannot load dataset {name!r} through the cache {cache} (HF_DATASETS_CACHE): {error}"
        ) from error


def _load(
    name: str,
    location: str,
    subset: str | None,
    split: str | None,
    settings: dict[str, Any],
    columns: Sequence[str] | None = None,
) -> Table:
    """`columns`: those to hold in memory, as the files that the library makes will go; None leaves all in the files."""
    import datasets  # a second of imports that no generated source needs

    from prunedlora.hub_access import access_hint

    try:
        builder = _builder(location, subset, settings)
        if columns is not None and _is_json_as_written(builder):
            return _json_as_written(name, builder.config.data_files, split, columns)
        builder.download_and_prepare()
        loaded = builder.as_dataset(split=split)
    except DataError:
        raise
    except StopIteration as error:  # what its reader of JSON does without a single row
        raise DataError(f"dataset {name!r} is empty") from error
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        if "corresponds to no data" in str(error):
            raise DataError(f"dataset {name!r} is empty") from error
        cause = error.__cause__ or error  # the library's own message often says no more than that something failed
        reason = f"{type(cause).__name__}: {cause}{access_hint(error)}".replace(location, name)
        if datasets.config.HF_HUB_OFFLINE and isinstance(error, ConnectionError):  # to which it did not try to connect
            reason = "HF_HUB_OFFLINE is set, and this machine's cache does not have it"
        if location == name:
            reason += f"; nor is there such a file or folder here ({looked_for(name)})"
        raise DataError(f"cannot load dataset {name!r}: {reason}") from error
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise DataError(f"dataset {name!r} has several splits, name one as split: {', '.join(loaded)}")
        loaded = next(iter(loaded.values()))
    if UNNAMED_COLUMN in loaded.column_names and builder.info.builder_name == "csv":
        raise DataError(f"dataset {name!r}: the rows of its csv have more cells than the header")
    table = from_dataset(loaded if columns is None else _in_memory(loaded, columns))
    table = replace(table, column_names=list(loaded.column_names), num_rows=loaded.num_rows)
    match builder.info.builder_name:
        case "json":
            return replace(table, take=partial(_take, table, _times(loaded.features), set()))
        case "csv":
            texts = {column for column, feature in loaded.features.items() if "string" in _type(feature)}
            if getattr(builder.config, "sep", ",") == "\t":
                _check_tsv(name, loaded, texts)
            return replace(table, take=partial(_take, table, _typed_again(loaded.column_names), texts))
    return table


def _is_json_as_written(builder: Any) -> bool:
    """Whether it reads local JSON whose types no card declares: it would guess them, and take 2024-01-31 for a time."""
    if builder.info.builder_name != "json" or builder.info.features is not None:
        return False
    return all(split_name(Path(file))[1] in JSON for files in builder.config.data_files.values() for file in files)


def _json_as_written(
    name: str, data_files: Mapping[Any, Sequence[str]], split: str | None, columns: Sequence[str]
) -> Table:
    """The rows of a split, as file_formats.py reads each of its files; only `columns` are held in memory."""
    from datasets import ReadInstruction

    files = {str(found): [Path(path) for path in paths] for found, paths in data_files.items()}
    if split is None and len(files) > 1:
        raise DataError(f"dataset {name!r} has several splits, name one as split: {', '.join(files)}")
    spec = ReadInstruction.from_spec(split or next(iter(files)))
    wanted = {piece.splitname for piece in spec._relative_instructions}
    if unknown := sorted(wanted - files.keys()):
        raise DataError(f"dataset {name!r} has no split {unknown[0]!r}; it has: {', '.join(files)}")
    names: dict[str, None] = {}
    values: dict[str, list[dict[str, Any]]] = {part: [] for part in sorted(wanted)}
    for part, rows in values.items():
        for path in files[part]:
            try:
                table = read_table(path)
            except DataError as error:
                raise DataError(f"dataset {name!r}, {path.name}: {error}") from error
            except UNREADABLE as error:
                raise DataError(f"dataset {name!r}, {path.name}: {type(error).__name__}: {error}") from error
            names |= dict.fromkeys(table.column_names)
            held = [column for column in columns if column in table.column_names]
            taken = table.take(range(table.num_rows), held)
            rows.extend({column: taken[column][row] for column in held} for row in range(table.num_rows))
    pieces = spec.to_absolute({part: len(rows) for part, rows in values.items()})
    kept = [row for piece in pieces for row in values[piece.splitname][piece.from_ : piece.to]]
    return Table(
        list(names),
        len(kept),
        lambda rows, asked: {column: [kept[row].get(column) for row in rows] for column in asked},
    )


def _check_tsv(name: str, dataset: Any, texts: set[str]) -> None:
    """As file_formats.py reads one: quotes that are none would join cells and rows."""
    import pyarrow.compute  # type: ignore[import-untyped]

    for column in sorted(texts):
        if pyarrow.compute.any(pyarrow.compute.match_substring_regex(dataset.data.column(column), NOT_IN_TSV)).as_py():
            raise DataError(f"dataset {name!r}: a cell of {column!r} in its tsv has a tab or a line break: {QUOTES}")


def _in_memory(dataset: Any, columns: Sequence[str]) -> Any:
    """These columns of a dataset, as far as it has them, copied out of its files."""
    import pyarrow
    from datasets import Dataset

    kept = dataset.select_columns([column for column in dataset.column_names if column in columns]).data.table
    copy = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(copy, kept.schema) as stream:
        stream.write_table(kept)
    return Dataset(pyarrow.ipc.open_stream(copy.getvalue()).read_all())


def _builder(location: str, subset: str | None, settings: dict[str, Any]) -> Any:
    import datasets

    load = partial(datasets.load_dataset_builder, location, subset, **settings)
    try:
        builder = load()
        if builder.info.builder_name != "csv":
            return builder
        with tempfile.TemporaryDirectory() as empty:  # what lies in the cache has types that were guessed
            declared = load(cache_dir=empty).info.features is not None
    except ValueError as error:
        # Without the Hub: what it made of a csv before is found under the options that it was made with.
        for options in (CSV_AS_TEXT, CSV_AS_DECLARED):
            with suppress(ValueError):
                return load(**options)
        raise error
    return load(**(CSV_AS_DECLARED if declared else CSV_AS_TEXT))


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def _times(features: Mapping[str, Any]) -> dict[str, str]:
    """Column → what is wrong with it. JSON has no times: what the library took for them was text, and is lost."""
    wrong = "is text that the datasets library takes for times; " + AS_IT_IS.format("JSON")
    return {
        name: wrong for name, feature in features.items() if _type(feature).startswith(("timestamp", "date", "time"))
    }


def _typed_again(columns: Sequence[str]) -> dict[str, str]:
    """The same for the columns of a csv that are too far right to be read as text."""
    wrong = (
        f"is not among the first {MOST_CSV_COLUMNS:,} of its csv, and the datasets library guesses the types of the "
        "others; " + AS_IT_IS.format("csv")
    )
    return dict.fromkeys(columns[MOST_CSV_COLUMNS:], wrong)


def _take(
    table: Table, wrong: Mapping[str, str], texts: set[str], rows: Sequence[int], columns: Sequence[str]
) -> dict[str, list[Any]]:
    """`wrong`: column → why it cannot be taken; `texts`: columns of text in a csv, where nothing is an empty cell."""
    for column in columns:
        if column in wrong:
            raise DataError(f"column {column!r} {wrong[column]}")
    values = table.take(rows, columns)
    return {
        name: ["" if value is None else value for value in found] if name in texts else found
        for name, found in values.items()
    }
