"""Files and folders as data sources: what a name means, and which file of a folder a split is."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from prunedlora.missing_path import looked_for
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import AS_NAMED, KNOWN_ENDINGS, UNREADABLE, Reading, read_table, split_name
from prunedlora.tasks.library_data import load_folder
from prunedlora.tasks.remote_files import fetch, is_remote
from prunedlora.tasks.saved_datasets import is_saved, load_saved
from prunedlora.tasks.table import Table, part_of

_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})")
"""How the Hub writes a split in several files: train-00000-of-00002.parquet."""


def local_path(name: str) -> Path | None:
    """The local path that a source's name means, of a file elsewhere where it lies here once fetched, or None for a Hub
    name. Raises DataError when it does not exist, or is something else than a file of a known format or a folder, and
    as `fetch`."""
    if is_remote(name):
        return fetch(name)
    path = Path(name).expanduser()
    if path.exists():
        if not path.is_file() and not path.is_dir():
            raise DataError(f"data path {name!r} is neither a file nor a folder; give one of them")
        if path.is_file() and not split_name(path)[1]:
            raise DataError(f"file {name!r} has a suffix that is not known; {KNOWN_ENDINGS}")
        return path
    if name.startswith(("./", "../", "/", "~")) or split_name(path)[1]:
        raise DataError(f"data path {name!r} does not exist ({looked_for(name)})")
    return None


def split_file(path: Path, name: str, split: str | None) -> Path | None:
    """The file that holds a split: the path itself, or a folder's `<split>.<ext>`; None where it has no such files, or
    has shards, as repositories of the Hub do. A text file of a folder counts where it is named as split alone: others
    are notes beside the data.

    Raises DataError when a folder's files are others, or several, or not all shards of a split are there.
    """
    if path.is_file():
        return path
    # A file's name may hold brackets itself; others begin a slice.
    asked = set() if split is None else {split, split.partition("[")[0]}
    found = {file: split_name(file) for file in sorted(path.iterdir()) if file.is_file()}
    stems = {file: stem for file, (stem, ending) in found.items() if ending and (ending != ".txt" or stem in asked)}
    files = list(stems)
    if not files:
        return None
    if split is None:
        if len(files) > 1 and all(map(_SHARD.fullmatch, stems.values())):
            _check_shards(name, stems.values())
            return None
        if len(files) > 1:
            raise DataError(f"{name!r} has several files, name one as split: {', '.join(stems.values())}")
        return files[0]
    wanted = split if split in stems.values() else split.partition("[")[0]
    matching = [file for file in files if stems[file] == wanted]
    if not matching and any(shard[1] == wanted for shard in map(_SHARD.fullmatch, stems.values()) if shard):
        _check_shards(name, stems.values())
        return None
    if not matching:
        raise DataError(f"{name!r} has no split {split!r}; it has: {', '.join(stems.values())}")
    if len(matching) > 1:
        raise DataError(f"{name!r} has several files for one split: {', '.join(file.name for file in matching)}")
    return matching[0]


def _check_shards(name: str, stems: Iterable[str]) -> None:
    """The library reads those that are there."""
    found = {(shard[1], int(shard[3]), int(shard[2])) for shard in map(_SHARD.fullmatch, stems) if shard}
    for split, number, _ in sorted(found):
        if missing := [index for index in range(number) if (split, number, index) not in found]:
            raise DataError(
                f"{name!r} lacks {len(missing)} of {number} files of split {split!r}, the first is number {missing[0]}"
            )


def load_local(
    path: Path,
    name: str,
    subset: str | None,
    split: str | None,
    revision: str | None,
    columns: Sequence[str],
    reading: Reading = AS_NAMED,
) -> Table:
    """The rows of a local file, of a split's file in a folder, of a folder that `datasets` saved, or of one laid out
    like a repository of the Hub.

    `name` is what messages call it; `columns` are those that will be taken. Raises DataError for fields that mean
    nothing for it and what cannot be read.
    """
    saved = is_saved(path)
    file = None if saved else split_file(path, name, split)
    given = {
        "revision": revision,
        "subset": subset if file or saved else None,
        "split": split if path.is_file() else None,
    }
    unused = [field for field, value in given.items() if value is not None]
    if unused := unused + reading.unused(split_name(file)[1] if file else ""):
        raise DataError(f"{', '.join(unused)} has no effect on local data {name!r}; remove it")
    if saved:
        return load_saved(path, name, split)
    if file is None:
        return load_folder(path, name, subset, split, columns)
    try:
        table = read_table(file, reading)
        sliced = split is not None and split != split_name(file)[0]
        return part_of(table, split) if split is not None and sliced else table
    except DataError as error:
        raise DataError(f"dataset {name!r}: {error}") from error
    except UNREADABLE as error:
        raise DataError(f"cannot load dataset {name!r}: {type(error).__name__}: {error}") from error
