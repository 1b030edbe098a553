"""A sweep as a YAML file with comments, as people write it: sections in lines of their own, what is short in braces."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

WIDTH = 120


def commented_yaml(tree: Mapping[str, Any], notes: Mapping[tuple[str, ...], Sequence[str]]) -> str:
    """The file. `notes`: keys down to an entry → the paragraphs of the comment above it; () above all."""
    lines = [*_comment(notes.get((), ()), 0), *_block(tree, notes, ())]
    return "\n".join(lines) + "\n"


def _block(
    tree: Mapping[str, Any], notes: Mapping[tuple[str, ...], Sequence[str]], above: tuple[str, ...]
) -> Iterator[str]:
    pad = "  " * len(above)
    for key, value in tree.items():
        place = (*above, key)
        if not above and isinstance(value, dict | list) and any(note[:1] == place for note in notes):
            yield ""
        yield from _comment(notes.get(place, ()), len(above))
        line = f"{pad}{_flow(key)}: {_flow(value)}"
        has_inner = any(len(note) > len(place) and note[: len(place)] == place for note in notes)
        if isinstance(value, dict) and value and (has_inner or len(line) > WIDTH):
            yield f"{pad}{_flow(key)}:"
            yield from _block(value, notes, place)
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield f"{pad}{_flow(key)}:"
            for one in value:
                yield from _item(one, f"{pad}  ")
        else:
            yield line


def _item(entry: Mapping[str, Any], pad: str) -> Iterator[str]:
    """Of a list, in lines of its own where it is too long for one."""
    line = f"{pad}- {_flow(entry)}"
    if len(line) <= WIDTH:
        yield line
        return
    for number, (key, value) in enumerate(entry.items()):
        yield f"{pad}{' ' if number else '-'} {_flow(key)}: {_flow(value)}"


def _comment(paragraphs: Sequence[str], depth: int) -> Iterator[str]:
    mark = "  " * depth + "# "
    for paragraph in paragraphs:
        yield from textwrap.wrap(
            paragraph,
            WIDTH,
            initial_indent=mark,
            subsequent_indent=mark,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _flow(value: Any) -> str:
    """In one line, as part of other such values."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{_flow(key)}: {_flow(entry)}" for key, entry in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str() if not value.isprintable():
            return json.dumps(value)
    text = yaml.safe_dump([value], default_flow_style=True, width=10**9, allow_unicode=True)
    return text.strip()[1:-1]
