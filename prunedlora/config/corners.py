"""The corners of a space: every combination of values at which it is checked, its conditions obeyed."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from prunedlora.config.space import IntRange, LogInt, LogUniform, SpaceEntry, Uniform

Numeric = Uniform | LogUniform | IntRange | LogInt
MOST_CORNERS = 4096
MOST_INNER = 2048


def applies(entry: SpaceEntry, values: Mapping[str, Any]) -> bool:
    """Whether a conditional entry is active under the values chosen so far."""
    return all(parent in values and values[parent] in allowed for parent, allowed in entry.when.items())


def ask_order(space: Mapping[str, SpaceEntry]) -> list[str]:
    """The entries' paths, each after those its `when` names, otherwise as in the file. Raises ValueError on a cycle."""
    order: list[str] = []
    while len(order) < len(space):
        ready = [path for path in space if path not in order and set(space[path].when) <= set(order)]
        if not ready:
            raise ValueError(
                f"space: `when` goes in a circle: {', '.join(path for path in space if path not in order)}"
            )
        order.append(ready[0])
    return order


def corners(space: Mapping[str, SpaceEntry], *, inner: bool = False) -> Iterator[dict[str, Any]]:
    """Every combination of categorical values, each at the corners of the numeric ranges.

    Above MOST_CORNERS combinations, the numeric entries are taken all low, all high, and each one alone at its other
    end; categorical values stay exhaustive. With `inner`, also each value between the ends of a numeric entry, while
    the others are all low and all high; of more than MOST_INNER such combinations an even selection.
    """
    order = ask_order(space)
    numeric = {path: space[path] for path in order if isinstance(space[path], Numeric)}
    ends = {path: entry.corners() for path, entry in numeric.items()}
    categorical = [path for path in order if path not in numeric]
    num_combinations = math.prod(len(space[path].corners()) for path in categorical)
    n = len(numeric)
    sides: list[tuple[int, ...]] = list(itertools.islice(itertools.product((0, 1), repeat=n), MOST_CORNERS + 1))
    if len(sides) * num_combinations > MOST_CORNERS:
        flips = [tuple(int(i == j) ^ side for i in range(n)) for j in range(n) for side in (0, 1)]
        sides = list(dict.fromkeys([(0,) * n, (1,) * n, *flips]))
    picks = [{path: ends[path][side] for path, side in zip(numeric, row, strict=True)} for row in sides]
    if inner:
        between = {path: entry.inner() for path, entry in numeric.items() if isinstance(entry, Numeric)}
        stride = 1 + 2 * sum(map(len, between.values())) * num_combinations // MOST_INNER
        picks += [
            {other: ends[other][side] for other in numeric} | {path: value}
            for path, values in between.items()
            for value in values[::stride]
            for side in (0, 1)
        ]
    seen = set()
    for combination in itertools.product(*(space[path].corners() for path in categorical)):
        for pick in picks:
            chosen = dict(zip(categorical, combination, strict=True)) | pick
            values: dict[str, Any] = {}
            for path in order:
                if applies(space[path], values):
                    values[path] = chosen[path]
            if (identity := repr(sorted(values.items(), key=lambda item: item[0]))) not in seen:
                seen.add(identity)
                yield values
