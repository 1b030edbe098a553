"""Dotted field paths over nested dicts: what a space entry, a baseline and `--set` have in common."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


class ListPathError(ValueError):
    """A dotted path that goes through a list, which has no named fields."""


def with_values(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `tree` with each dotted path of `values` set, shorter paths first, so that a section can be replaced
    and then refined; sections that are missing or null on the way are created.

    Raises ListPathError for a path through a list: it would have to put one section in the place of all.
    """
    result = _copy(tree)
    for path in sorted(values, key=lambda path: (path.count("."), path)):
        *parents, leaf = path.split(".")
        node = result
        for depth, name in enumerate(parents, 1):
            if isinstance(node.get(name), list):
                at, below = ".".join(parents[:depth]), ".".join([*parents[depth:], leaf])
                raise ListPathError(
                    f"{path}: {at} is a list of {len(node[name])} and has no field {below!r}; give {at} as a whole, or "
                    "make it one section"
                )
            if not isinstance(node.get(name), dict):
                node[name] = {}
            node = node[name]
        node[leaf] = _copy(values[path])
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def is_field(model: type[BaseModel], path: str) -> bool:
    """Whether the dotted path names a field of the model (a free-form dict takes any name below it)."""
    name, _, rest = path.partition(".")
    if name not in model.model_fields:
        return False
    if not rest:
        return True
    inner = _alternatives(model.model_fields[name].annotation)
    if any(get_origin(t) is dict for t in inner):
        return True
    return any(isinstance(t, type) and issubclass(t, BaseModel) and is_field(t, rest) for t in inner)


def takes_whole_numbers_only(model: type[BaseModel], path: str) -> bool:
    """Whether the dotted path names a field of the model whose only numbers are whole ones."""
    name, _, rest = path.partition(".")
    if name not in model.model_fields:
        return False
    kinds = _alternatives(model.model_fields[name].annotation)
    if not rest:
        return int in kinds and float not in kinds
    sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return any(takes_whole_numbers_only(section, rest) for section in sections)


def all_fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted paths of all fields, sections included, in order of declaration."""
    paths = []
    for name, field in model.model_fields.items():
        paths.append(prefix + name)
        for inner in _alternatives(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                paths += all_fields(inner, f"{prefix}{name}.")
    return paths


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for arg in get_args(annotation) for inner in _alternatives(arg)]
    return [] if annotation is NoneType else [annotation]


KINDS = {
    *(("schedule", kind) for kind in ("schedule", "ladder")),
    *((split, kind) for split in ("train", "validation", "test") for kind in ("source", "sources")),
}
"""What pydantic puts between two names to say which kind of section it has read."""


def place(location: Sequence[int | str]) -> str:
    """Where pydantic found an error, as people write it: without the name of the kind of section that was read."""
    before = ("", *location)
    return ".".join(str(part) for last, part in zip(before, location, strict=False) if (last, part) not in KINDS)
