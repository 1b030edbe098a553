"""Tasks of lm-evaluation-harness as a configuration names them: a name of the harness's own, or local files."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MADE_BY_LOADING = frozenset({"__pycache__", ".ipynb_checkpoints"})
"""Folders of no task of its own; the harness leaves them out too."""
HARNESS_EXTRA = 'pip install "prunedlora[harness]"'


def is_path(name: str) -> bool:
    """Whether a task is a local file or folder; no name of the harness's own has a slash or this ending."""
    return "/" in name or name.endswith(".yaml")


def task_files(path: Path) -> list[Path]:
    """All local files that decide what the task file or the folder of task files `path` measures, sorted: a folder's
    content, and what its tasks include, take functions from, or name as data. (What those functions import is not
    followed.) Files that are not there are left out: whether a task can be loaded is not decided here.
    """
    found = set(_files(path))
    waiting = [file for file in found if file.suffix == ".yaml"]
    while waiting:
        for key, named in _named_files(waiting.pop()):
            fresh = set(_files(named)) - found
            found |= fresh
            if key == "include":
                waiting += fresh
    return sorted(found)


class _Loader(yaml.SafeLoader):
    """Task files are YAML with a tag of their own, `!function module.name`."""


class _Function(str):
    """What stands after the tag."""


def _construct_function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> _Function:
    return _Function(loader.construct_scalar(node))


_Loader.add_constructor("!function", _construct_function)


def _named_files(file: Path) -> Iterator[tuple[str, Path]]:
    """Field and path of every file that a task file names."""
    try:
        content = yaml.load(file.read_text("utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # the harness will say so
    for key, value in _leaves(content):
        if isinstance(value, _Function):
            yield "!function", file.parent / f"{value.rpartition('.')[0].replace('.', '/')}.py"
        elif key[:1] == ("include",):
            yield "include", file.parent / value
        elif key[:2] == ("dataset_kwargs", "data_files") or (key == ("dataset_path",) and "/" in value):
            # A pattern, where the harness's library of data sets finds one in it.
            yield from (("data", Path(path)) for path in sorted({value, *glob.glob(value, recursive=True)}))


def _leaves(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in nested fields, with their names."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*key, str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)


def _files(path: Path) -> Iterator[Path]:
    """A file, or all files in a folder but those that loading its tasks leaves there."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not MADE_BY_LOADING.intersection(file.relative_to(path).parts):
            yield file.resolve()
