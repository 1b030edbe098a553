"""A made-up table in closed form, over the grid of a recorded one, so that what the best search can reach is known.

An adapter of p parameters in a training whose settings are x away from the best (every entry of the grid at its middle
value) has the quality q(p) · exp(−x), with q(p) = 1 − exp(−p / SCALE); its loss is −log of that, and before its end
TRANSIENT · (1 − share) more. No training at any place is above q, and that at the best place is on it with all of its
candidates: the front is q at the sizes that the grid has.
"""

import math
from collections.abc import Sequence
from typing import Any

from prunedlora.benchmarks.product.search_grid import Grid, Place

SCALE = 3_000.0
TRANSIENT = 2.0
STEPS = 100
LOOKS = (5, 10, 20, 30)
TRUNK = 0.5
FALLING = (2.0, 0.5, 0.25, 0.125)
"""Parameters of a ladder's rungs, in PER_RANK."""
PER_RANK = 10_000
PENALTY = 0.15
"""x of the next value to the middle one; it grows with the square."""
ERROR = 1e-3
"""Standard error on record of every figure; there is no noise in them."""


def toy_table(ladder: Grid, single: Grid) -> dict[str, Any]:
    """{"base", kind: {"grid", "rows"}} as it is recorded."""
    return {
        "base": 0.0,
        "ladder": {
            "grid": ladder.values,
            "rows": [_row(ladder, place, _rungs(ladder, place)) for place in ladder.places()],
        },
        "single": {
            "grid": single.values,
            "rows": [_row(single, place, [_size(single, place)]) for place in single.places()],
        },
    }


def quality(params: float) -> float:
    """The best that there is at a size."""
    return 1.0 - math.exp(-params / SCALE)


def _rungs(grid: Grid, place: Place) -> list[float]:
    return [grid.suggestion(place)["adapter.initial_rank"], *FALLING]


def _size(grid: Grid, place: Place) -> float:
    values = grid.suggestion(place)
    return float(values["adapter.initial_rank"]) * (1.0 - values.get("pruning.target_sparsity", 0.0))


def _away(grid: Grid, place: Place) -> float:
    """0 at one place: what decides the size costs nothing."""
    free = ("adapter.initial_rank", "pruning.target_sparsity", "adapter.method")
    lists = [(values, at) for (path, values), at in zip(grid.values.items(), place, strict=True) if path not in free]
    return sum(PENALTY * (at - len(values) // 2) ** 2 for values, at in lists)


def _row(grid: Grid, place: Place, ranks: Sequence[float]) -> dict[str, Any]:
    sizes = [round(rank * PER_RANK) for rank in ranks]
    away = _away(grid, place)
    ends = [STEPS]
    if len(sizes) > 1:
        ends = [round(STEPS * (TRUNK + (1 - TRUNK) * n / (len(sizes) - 1))) for n in range(len(sizes))]

    def loss(step: int, params: int) -> float:
        return away - math.log(quality(params)) + TRANSIENT * (1 - step / STEPS)

    return {
        "at": list(place),
        "steps": STEPS,
        "looks": [[step, loss(step, sizes[0]), ERROR] for step in LOOKS],
        "outcomes": [],
        "removals": [end + 1 for end in ends[:-1]],
        "candidates": [
            [end, size, max(1, math.ceil(rank)), loss(end, size), ERROR, quality(size) * math.exp(-away), ERROR]
            for end, size, rank in zip(ends, sizes, ranks, strict=True)
        ],
        "failed": None,
    }
