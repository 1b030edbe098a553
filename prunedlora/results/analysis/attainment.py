"""Attainment over seeds: which quality a share of the seeds reaches at each size, from one front per seed.

A seed attains a point when something on its front is no larger and no worse. The empirical attainment function says
for which share of the seeds that is so (https://doi.org/10.1007/3-540-44719-9_15); its level lines are medians and
quartiles of fronts.
"""

from dataclasses import dataclass

import moocore
import numpy as np

from prunedlora.results.analysis.configurations import identity
from prunedlora.results.analysis.summary import Summary

PERCENTILES = (25, 50, 75)
FEWEST = 3
"""Seeds below which a band is no band: quartiles of two are just the two."""


@dataclass(frozen=True)
class Level:
    """The line that a share of the seeds attains: a step function, each quality holding from its size on."""

    percent: int
    sizes: tuple[float, ...]
    """Rising."""
    qualities: tuple[float, ...]


@dataclass(frozen=True)
class Attainment:
    levels: tuple[Level, ...]
    """By rising share: fewer seeds reach further."""
    seeds: tuple[int, ...]
    num_configurations: int
    """Trained with each of the seeds, so that the seeds have the same to choose from."""

    @property
    def few(self) -> bool:
        """Whether there are too few seeds for quartiles."""
        return len(self.seeds) < FEWEST


def attainment(summary: Summary) -> Attainment | None:
    """The level lines over the seeds that most trainings share; None where no configuration was trained with two.

    Only configurations trained to the end with each of these seeds count: a front of more configurations reaches
    further by itself.
    """
    trained: dict[str, dict[int, str]] = {}
    for record in summary.records:
        seed = record.config.get("seed")
        if isinstance(seed, int) and record.status == "completed":
            trained.setdefault(identity(record), {})[seed] = record.key
    choices = {frozenset(seeds) for seeds in trained.values() if len(seeds) > 1}

    def having(seeds: frozenset[int]) -> list[dict[int, str]]:
        return [keys for keys in trained.values() if seeds <= keys.keys()]

    if not choices:
        return None
    seeds = max(choices, key=lambda seeds: (len(seeds) * len(having(seeds)), len(seeds), sorted(seeds)))
    seed_of = {keys[seed]: seed for keys in having(seeds) for seed in seeds}
    # By seed: moocore takes a set for points that stand together.
    points = sorted((point for point in summary.points if point.key in seed_of), key=lambda point: seed_of[point.key])
    if {seed_of[point.key] for point in points} != seeds:
        return None
    sign = -1.0 if summary.objectives.maximize else 1.0
    costs = np.array([[point.size, sign * point.quality.value] for point in points])
    lines = moocore.eaf(costs, [seed_of[point.key] for point in points], percentiles=PERCENTILES)
    return Attainment(
        levels=tuple(_level(lines[lines[:, 2] == percent, :2], percent, sign) for percent in PERCENTILES),
        seeds=tuple(sorted(seeds)),
        num_configurations=len(having(seeds)),
    )


def _level(costs: np.ndarray, percent: int, sign: float) -> Level:
    costs = costs[np.argsort(costs[:, 0])]
    return Level(percent, tuple(map(float, costs[:, 0])), tuple(float(sign * cost) + 0.0 for cost in costs[:, 1]))
