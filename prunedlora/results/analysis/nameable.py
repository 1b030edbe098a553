"""Nameable: the adapters that a recommendation may still name, whatever it is asked for; the others can go."""

from dataclasses import dataclass
from itertools import takewhile
from math import hypot, inf

from prunedlora.results.analysis.configurations import Configuration, configurations
from prunedlora.results.analysis.pareto import Objectives, Point, front, points
from prunedlora.results.analysis.recommendation import SCREEN
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import ObjectiveError
from prunedlora.sizes import SIZES


def nameable(summary: Summary) -> frozenset[str]:
    """Names (Point.name) of the candidates, of those with an adapter file, that must keep it:

    - the front on every axis of size, which holds whatever `report`, `recommend --knee`, `best` and the sweep itself
      name by measured figures alone, at any margin. It is the front of those with a file, since one without (every rank
      is 0) is never named;
    - every configuration that no other beats for certain. One that does has at least as many seeds, is no larger on any
      axis, and measured better than each of the loser's seeds by more than SCREEN standard errors. A recommendation
      with confidence passes over the better and smaller of two only where it cannot prove it: where its bound lies so
      much higher. What a bound adds to a measured difference is less than that lead at any confidence up to .999.

    A configuration is judged by all of its seeds, also those whose file is gone; the files of the others are kept or go
    as one, so that the best of them can be shipped.
    """
    placed = _placed(summary)
    axes = [axis for axis, _ in placed]
    on_fronts = {
        point.name
        for axis, placed_points in placed
        for point in front([p for p in placed_points if p.candidate.adapter_path is not None], axis)
    }
    measured = configurations(summary.points, summary.records, summary.objectives)
    found = [configuration for configuration in measured if configuration.is_shippable]
    noise = max((point.quality.stderr or 0.0 for each in found for point in each.points), default=0.0)
    entries = sorted((_entry(each, axes, noise) for each in found), key=lambda entry: -entry.certain)
    kept = set(on_fronts)
    for entry in entries:
        names = {p.name for p in entry.configuration.points if p.candidate.adapter_path is not None}
        if names & on_fronts or not _is_beaten(entry, entries):
            kept |= names
    return frozenset(kept)


@dataclass(frozen=True)
class _Entry:
    """A configuration and what decides whether another beats it."""

    configuration: Configuration
    smallest: tuple[float, ...]
    """Of its seeds, on each axis of size."""
    largest: tuple[float, ...]
    best: float
    """Quality of its best seed, with its sign such that more is better."""
    certain: float
    """Its mean less the lead that it needs: it is better for certain than what is below; infinitely low where its error
    is not known."""


def _entry(configuration: Configuration, axes: list[Objectives], noise: float) -> _Entry:
    gain = axes[0].gain
    sizes = [[_size(point, axis) for point in configuration.points] for axis in axes]
    errors = [point.quality.stderr for point in configuration.points]
    own = max((inf if error is None else error) for error in errors)
    return _Entry(
        configuration=configuration,
        smallest=tuple(map(min, sizes)),
        largest=tuple(map(max, sizes)),
        best=max(gain(point.quality.value) for point in configuration.points),
        certain=gain(configuration.mean) - SCREEN * hypot(own, noise),
    )


def _is_beaten(entry: _Entry, entries: list[_Entry]) -> bool:
    """Whether one of the entries, which fall in `certain`, beats this one."""
    return any(
        len(other.configuration.points) >= len(entry.configuration.points)
        and all(large <= small for large, small in zip(other.largest, entry.smallest, strict=True))
        for other in takewhile(lambda other: other.certain > entry.best, entries)
    )


def _placed(summary: Summary) -> list[tuple[Objectives, list[Point]]]:
    """The quality against every size that the records have, with the points there: no command can ask for others."""
    placed = []
    for size in SIZES:
        axis = summary.objectives.with_size(size)
        try:
            placed.append((axis, points(summary.records, axis)))
        except ObjectiveError:
            continue
    return placed


def _size(point: Point, axis: Objectives) -> float:
    if axis.size.startswith("served_slot") and point.candidate.served_slot is None:
        return inf
    return point.candidate.objective(axis.size)
