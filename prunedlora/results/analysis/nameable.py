"""Nameable: the adapters that a decision may still name, whatever it is asked for; the others can go."""

from math import inf

import numpy as np

from prunedlora.results.analysis.pareto import Point, points
from prunedlora.results.analysis.served_size import served_sizes
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import ObjectiveError
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Refused
from prunedlora.sizes import SIZES

SCREEN = 5.0
"""Standard errors (of two independent figures) by which one must be ahead to be better for certain."""


def nameable(summary: Summary) -> frozenset[str]:
    """Names (Point.name) of the candidates, of those with an adapter file, that must keep it: all that no other one
    beats for certain, which is no larger on any axis of size, as trained and as each server needs it, and measured
    better by more than SCREEN standard errors. Servers may be asked for later that the sweep did not have: what is no
    larger for each alone is no larger for several.

    A beaten one is named by nothing. By measured figures (the front on any axis; the smallest at any margin, under any
    constraint), because the other meets every constraint that it meets, is no larger and better. As the smallest that
    is proven, because the other's bound is lower: what a bound adds to a measured difference is less than that lead, at
    any confidence up to .999. That other one may be beaten too, but then by one that beats both. Bounds stay as they
    are when files go: figures and outcomes stay, and those without a file are compared too.
    """
    axes = _axes(summary)
    every = points(summary.chosen_from, summary.objectives.with_servers(()))
    found = [point for point in every if point.has_file]
    sizes = np.array([_sizes(point, axes) for point in found]).reshape(len(found), len(axes) * (1 + len(SERVERS)))
    gains = np.array([summary.objectives.gain(point.quality.value) for point in found])
    errors = np.array([inf if point.quality.stderr is None else point.quality.stderr for point in found])
    noise = max(filter(np.isfinite, errors), default=0.0)
    certain = gains - SCREEN * np.hypot(errors, noise)
    return frozenset(
        point.name
        for point, size, gain in zip(found, sizes, gains, strict=True)
        if not (sizes[certain > gain] <= size).all(1).any()
    )


def _axes(summary: Summary) -> list[str]:
    """The axes of size that the records have: no command can ask for others."""
    axes = []
    for size in SIZES:
        try:
            points(summary.records, summary.objectives.with_size(size))
        except ObjectiveError:
            continue
        axes.append(size)
    return axes


def _sizes(point: Point, axes: list[str]) -> list[float]:
    """On each axis: as trained, then for each server; infinite for one that serves it right in no form."""
    sizes = [point.size_on(axis) for axis in axes]
    for name in SERVERS:
        served = served_sizes(point.record, point.candidate, [name])
        sizes += [inf if isinstance(served, Refused) else served[axis] for axis in axes]
    return sizes
