"""Data that the `datasets` library reads: of the Hub, and of local folders laid out like a repository of the Hub."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.table import Table, from_dataset

MOST_CSV_COLUMNS = 1000
CSV_AS_TEXT = {"converters": dict.fromkeys(range(MOST_CSV_COLUMNS), str), "na_filter": False}
"""Options of its reader of csv files (pandas, by number of the column) with which every cell is the text that it is."""
UNNAMED_COLUMN = "__index_level_0__"
"""What it makes of first cells that no name stands above; the others then stand under their neighbours' names."""


def load_from_hub(name: str, subset: str | None, split: str | None, revision: str | None) -> Table:
    """A dataset of the Hub. Raises DataError: not found, unknown split, several splits and none named."""
    return _load(name, name, subset, split, {"revision": revision})


def load_folder(folder: Path, name: str, subset: str | None, split: str | None) -> Table:
    """A folder laid out like a repository of the Hub, as its files are now. `name` is what messages call it. Raises as
    `load_from_hub`.

    The library gets links to the files in an empty folder, with a cache of its own beside them: it looks at a file's
    time, not at its content, to see whether what it read before is still right, and takes a path for a pattern.
    """
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE)  # what it reads is written once more: where it would be anyway
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="prunedlora-") as scratch:
            links = Path(scratch, "data")
            for file in sorted(file for file in folder.rglob("*") if file.is_file()):
                link = links / file.relative_to(folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())
            return _load(name, str(links), subset, split, {"cache_dir": str(Path(scratch, "cache"))})
    except OSError as error:
        raise DataError(
            f"cannot load dataset {name!r} through the cache {cache} (HF_DATASETS_CACHE): {error}"
        ) from error


def _load(name: str, location: str, subset: str | None, split: str | None, settings: dict[str, Any]) -> Table:
    import datasets  # a second of imports that no generated source needs

    try:
        builder = _builder(location, subset, settings)
        builder.download_and_prepare()
        loaded = builder.as_dataset(split=split, in_memory="cache_dir" in settings)
    except StopIteration as error:  # what its reader of JSON does without a single row
        raise DataError(f"dataset {name!r} is empty") from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if "corresponds to no data" in str(error):
            raise DataError(f"dataset {name!r} is empty") from error
        cause = error.__cause__ or error  # the library's own message often says no more than that something failed
        raise DataError(f"cannot load dataset {name!r}: {type(cause).__name__}: {cause}") from error
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise DataError(f"dataset {name!r} has several splits, name one as split: {', '.join(loaded)}")
        loaded = next(iter(loaded.values()))
    if UNNAMED_COLUMN in loaded.column_names and builder.info.builder_name == "csv":
        raise DataError(f"dataset {name!r}: the rows of its csv have more cells than the header")
    table = from_dataset(loaded)
    if builder.info.builder_name != "json":
        return table
    times = {column for column, feature in loaded.features.items() if _is_time(feature)}
    return replace(table, take=partial(_take_but_times, table, times))


def _builder(location: str, subset: str | None, settings: dict[str, Any]) -> Any:
    import datasets

    load = partial(datasets.load_dataset_builder, location, subset, **settings)
    try:
        builder = load()
    except ValueError as error:
        try:  # without the Hub: what it made of a csv before is found under the options that it was made with
            return load(**CSV_AS_TEXT)
        except ValueError:
            raise error from None
    return load(**CSV_AS_TEXT) if builder.info.builder_name == "csv" else builder


def _is_time(feature: Any) -> bool:
    return str(getattr(feature, "dtype", "")).startswith(("timestamp", "date", "time"))


def _take_but_times(table: Table, times: set[str], rows: Sequence[int], columns: Sequence[str]) -> dict[str, list[Any]]:
    """JSON has no times: what the library took for them was text that looked like one, and is lost."""
    if lost := sorted(times.intersection(columns)):
        raise DataError(
            f"column {lost[0]!r} is text that the datasets library takes for times; give its JSON file itself as the "
            "data, which is read as it is"
        )
    return table.take(rows, columns)
