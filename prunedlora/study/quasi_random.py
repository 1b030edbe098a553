"""Quasi-random settings: the first asks cover a space more evenly than random ones do."""

import math
from collections.abc import Mapping
from typing import Any

from prunedlora.config.corners import ask_order
from prunedlora.config.space import Choice, IntRange, LogInt, LogUniform, SpaceEntry, Uniform, Value
from prunedlora.study.listed_configurations import choice_options


def quasi_random(space: Mapping[str, SpaceEntry], seed: int, number: int) -> dict[str, Any]:
    """Parameter (as Optuna has it) → value, of every entry that is searched, whether it applies or not.

    Point `number` of a Sobol sequence (scrambled by `seed`), with a dimension for each entry: those of a condition that
    fails are passed over, which leaves the others as even as they were.
    """
    from scipy.stats import qmc  # here: it takes longer to import than to ask

    searched = [path for path in ask_order(space) if not isinstance(space[path], Value)]
    sobol = qmc.Sobol(d=len(searched), scramble=True, seed=seed)
    if number:
        sobol.fast_forward(number)
    (point,) = sobol.random(1).tolist()
    return {path: _at(space[path], share) for path, share in zip(searched, point, strict=True)}


def _at(entry: SpaceEntry, share: float) -> Any:
    """The value below which this share of the entry lies, in [0, 1)."""
    match entry:
        case Choice():
            options = choice_options(entry)
            return options[int(share * len(options))]
        case Uniform():
            low, high = entry.uniform
            return low + share * (high - low)
        case LogUniform():
            low, high = entry.log_uniform
            return min(max(low * (high / low) ** share, low), high)
        case IntRange():
            return entry.values()[int(share * len(entry.values()))]
        case LogInt():
            low, high = entry.log_int
            bottom, top = math.log(low - 0.5), math.log(high + 0.5)  # each whole number has its own part, as in Optuna
            return min(max(round(math.exp(bottom + share * (top - bottom))), low), high)
    raise AssertionError(entry)
