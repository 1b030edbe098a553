"""All configurations of a space that has finitely many, so that it can be tried whole."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from prunedlora.config.corners import applies, ask_order
from prunedlora.config.space import Choice, LogUniform, SpaceEntry, Uniform, Value

MOST_LISTED = 10_000
"""A space of more configurations is not listed: a search of it will not come to its end."""


def list_configurations(space: Mapping[str, SpaceEntry]) -> list[dict[str, Any]] | None:
    """Parameters (as Optuna has them) of every configuration, in the order of the file, conditions obeyed.

    None for a space that has a continuous entry, or more than MOST_LISTED configurations.
    """
    if any(isinstance(entry, Uniform | LogUniform) for entry in space.values()):
        return None
    found = list(itertools.islice(_configurations(space, ask_order(space), {}, {}), MOST_LISTED + 1))
    return found if len(found) <= MOST_LISTED else None


def canonical_params(params: Mapping[str, Any]) -> str:
    """The same for equal parameters in any order."""
    return json.dumps(params, sort_keys=True)


def as_values(params: Mapping[str, Any], space: Mapping[str, SpaceEntry]) -> dict[str, Any]:
    """Field path → value of parameters of the space, fixed values of conditional entries included."""
    values: dict[str, Any] = {}
    for path in ask_order(space):
        entry = space[path]
        if not applies(entry, values):
            continue
        if isinstance(entry, Value):
            values[path] = entry.value
        elif isinstance(entry, Choice):
            values[path] = entry.choice[choice_options(entry).index(params[path])]
        else:
            values[path] = params[path]
    return values


def choice_options(entry: Choice) -> list[Any]:
    """The choices as Optuna takes them: scalars as they are; if any is none, all as canonical JSON text."""
    if all(value is None or isinstance(value, bool | int | float | str) for value in entry.choice):
        return list(entry.choice)
    return [json.dumps(value, sort_keys=True, separators=(",", ":")) for value in entry.choice]


def _configurations(
    space: Mapping[str, SpaceEntry], order: list[str], values: dict[str, Any], params: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Those that begin with these values, which are of all entries before `order`."""
    if not order:
        yield params
        return
    path, rest = order[0], order[1:]
    entry = space[path]
    if not applies(entry, values):
        yield from _configurations(space, rest, values, params)
    elif isinstance(entry, Value):
        yield from _configurations(space, rest, values | {path: entry.value}, params)
    else:
        for value, param in _options(entry):
            yield from _configurations(space, rest, values | {path: value}, params | {path: param})


def _options(entry: SpaceEntry) -> Iterator[tuple[Any, Any]]:
    """Pairs of a value and what Optuna has for it."""
    if isinstance(entry, Choice):
        yield from zip(entry.choice, choice_options(entry), strict=True)
    else:
        assert not isinstance(entry, Uniform | LogUniform | Value)
        yield from ((value, value) for value in entry.values())
