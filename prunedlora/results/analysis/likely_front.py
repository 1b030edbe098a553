"""The front with its doubt: how likely each candidate is on it, had other examples been drawn.

Of the adapters as they are: another training of the same configuration is another adapter, whose spread stands beside
it where there were several seeds. The likelihoods are shares of paired resamplings (example_errors.py) in which the
candidate is dominated by none. `jobs/benchmark.py coverage` compares them with what is so: they come true where
candidates differ by more than their errors (0.29 said, 0.35 so). Where many hardly differ, low ones are far too low
(0.02 said, 0.38 so): the measured values, from which resampling starts, lie further apart than the true ones. A low
likelihood among near equals therefore rules nothing out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunedlora.results.analysis.confidence import Floats
from prunedlora.results.analysis.configurations import Configuration, configurations
from prunedlora.results.analysis.example_errors import example_errors
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary

NUM_DRAWS = 1000
"""Resamplings: a likelihood of one half is known to 1.6 percentage points."""


@dataclass(frozen=True)
class Standing:
    """One candidate; its accuracy, standard error and number of examples are `point.quality`."""

    point: Point
    configuration: Configuration
    """With all its seeds: their number, mean and the mean's standard error."""
    on_front: float | None
    """Probability that no other candidate dominates it; None when nothing is known of its error."""
    dominated_by: Point | None
    """The one that most probably dominates it; None when none ever does."""
    dominated_by_it: float
    """Probability of that."""
    num_dominated: float | None
    """How many others it dominates, in expectation."""

    @property
    def dominated(self) -> float | None:
        """Probability that some other candidate dominates it."""
        return None if self.on_front is None else 1.0 - self.on_front


@dataclass(frozen=True)
class LikelyFront:
    standings: tuple[Standing, ...]
    """All candidates, smallest first."""
    caveats: tuple[str, ...]
    """Sentences on what was not compared example by example; empty: all was."""

    def of(self, point: Point) -> Standing:
        """Raises KeyError for a candidate of another sweep."""
        return {standing.point.name: standing for standing in self.standings}[point.name]


def likely_front(summary: Summary, *, seed: int = 0, num_draws: int = NUM_DRAWS) -> LikelyFront:
    """The standing of every candidate. Raises RecordError for broken outcomes."""
    points = sorted(summary.points, key=lambda point: (point.size, point.key, point.candidate.name))
    if not points:
        return LikelyFront((), ())
    gain = summary.objectives.gain
    alone = np.arange(len(points))
    errors = example_errors(summary.store, points, alone, summary.objectives, np.random.default_rng(seed), num_draws)
    draws = np.array([gain(point.quality.value) for point in points]) + errors.draws
    sizes = np.array([point.size for point in points])
    on_front = on_front_share(draws, sizes)
    dominators, shares, num_dominated = domination(draws, sizes)
    known = np.asarray(np.isfinite(draws).all(0))
    found = configurations(points, summary.records, summary.objectives)
    owner = {point.name: each for each in found for point in each.points}
    standings = tuple(
        Standing(
            point=point,
            configuration=owner[point.name],
            on_front=float(on_front[index]) if known[index] else None,
            dominated_by=points[dominators[index]] if shares[index] > 0 else None,
            dominated_by_it=float(shares[index]),
            num_dominated=float(num_dominated[index]) if known[index] else None,
        )
        for index, point in enumerate(points)
    )
    return LikelyFront(standings, tuple(errors.caveats()))


def on_front_share(draws: Floats, sizes: Floats) -> Floats:
    """Share of the draws in which no other candidate dominates it, (C,).

    `draws` (num_draws, C) of the quality, more is better, NaN: never dominates; `sizes` (C,) rising. One dominates
    another if it is no larger and no worse, and smaller or better: equals in both do not.
    """
    values = np.nan_to_num(draws, nan=-np.inf)
    best_so_far = np.maximum.accumulate(values, axis=1)
    first = np.asarray(np.searchsorted(sizes, sizes, side="left"))
    last = np.searchsorted(sizes, sizes, side="right") - 1
    # Strictly smaller ones must all be worse; of the same size none may be better.
    smaller = np.where(first > 0, best_so_far[:, np.maximum(first - 1, 0)], -np.inf)
    return np.asarray(((values > smaller) & (values >= best_so_far[:, last])).mean(0))


def domination(draws: Floats, sizes: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Of every candidate: who dominates it most often, in which share of the draws, and how many others it dominates in
    the mean; three times (C,). Arguments as for `on_front_share`; of equally frequent dominators the first."""
    values = np.ascontiguousarray(np.nan_to_num(draws, nan=-np.inf).T)
    num_draws, num = draws.shape
    most, dominator, total = np.zeros(num), np.zeros(num, dtype=np.int64), np.zeros(num)
    first = np.searchsorted(sizes, sizes, side="left")
    for index in range(num):
        # None that is smaller can be dominated; of the same size, only what is worse.
        others = values[first[index] :]
        same = np.asarray(sizes[first[index] :] == sizes[index])
        wins = np.empty(len(others), dtype=np.int64)
        wins[same] = np.count_nonzero(values[index] > others[same], axis=1)
        wins[~same] = np.count_nonzero(values[index] >= others[~same], axis=1)
        share = wins / num_draws
        total[index] = share.sum()
        ahead = share > most[first[index] :]
        most[first[index] :][ahead] = share[ahead]
        dominator[first[index] :][ahead] = index
    return dominator, most, total
