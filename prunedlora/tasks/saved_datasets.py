"""Folders that `datasets` wrote with save_to_disk: one dataset, or one for each split."""

import json
from pathlib import Path
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import UNREADABLE
from prunedlora.tasks.table import Table, from_dataset, part_of

ONE = ("dataset_info.json", "state.json")
SEVERAL = "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Whether a folder is one of these."""
    return (folder / SEVERAL).is_file() or all((folder / name).is_file() for name in ONE)


def load_saved(folder: Path, name: str, split: str | None) -> Table:
    """The rows of a split, which may have slices. A folder of one dataset has the split that it was saved as, if any.

    `name` is what messages call it. Raises DataError: no such split, several and none named, files that are missing or
    broken.
    """
    wanted = None if split is None else split.partition("[")[0]
    try:
        several = (folder / SEVERAL).is_file()
        there = _names(folder, several)
        if wanted is not None and wanted not in there:
            raise DataError(f"{name!r} has no split {split!r}" + (f"; it has: {', '.join(there)}" if there else ""))
        if several and wanted is None and len(there) != 1:
            raise DataError(f"dataset {name!r} has several splits, name one as split: {', '.join(there)}")
        table = from_dataset(_load(folder / (wanted or there[0]) if several else folder))
        return table if split is None or split == wanted else part_of(table, split)
    except DataError:
        raise
    except (*UNREADABLE, KeyError, TypeError) as error:
        raise DataError(f"cannot load dataset {name!r}: {type(error).__name__}: {error}") from error


def _names(folder: Path, several: bool) -> list[str]:
    if several:
        return list(json.loads((folder / SEVERAL).read_text("utf-8"))["splits"])
    named = json.loads((folder / ONE[1]).read_text("utf-8")).get("_split")
    return [] if named is None else [str(named)]


def _load(folder: Path) -> Any:
    """Without the form (of torch, numpy, …) that rows were to be given in."""
    from datasets import load_from_disk

    return load_from_disk(str(folder.absolute())).with_format(None)
