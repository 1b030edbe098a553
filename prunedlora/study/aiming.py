"""Aiming: of several suggestions, the one whose sizes lie where the front has most to gain. Sizes are known before a
training, so that no sampler need learn them."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise


def front_of(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (size, gain) those that no other beats, rising in both."""
    front: list[tuple[float, float]] = []
    for size, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((size, gain))
    return front


def growth(sizes: Iterable[float], front: Sequence[tuple[float, float]]) -> float:
    """How much the area under the front grows, in gain × log of size, by candidates of these sizes whose gains lie on
    the straight line between the front's points on both sides. None is expected outside of the front's sizes, where
    nothing says what can be had."""
    places = [math.log(max(1.0, size)) for size, _ in front]
    gains = [gain for _, gain in front]
    found = [(place, _between(place, places, gains)) for place in sorted(math.log(max(1.0, size)) for size in sizes)]
    new = front_of([*zip(places, gains, strict=True), *((place, gain) for place, gain in found if gain is not None)])
    return _area(new) - _area(list(zip(places, gains, strict=True)))


def best_aimed(suggestions: Sequence[Sequence[float]], front: Sequence[tuple[float, float]]) -> int:
    """Number of the suggestion, each given by the sizes of its candidates, that the front grows most by; the first
    among equals."""
    grown = [growth(sizes, front) for sizes in suggestions]
    return grown.index(max(grown))


def _between(place: float, places: Sequence[float], gains: Sequence[float]) -> float | None:
    i = bisect_right(places, place)
    if i in (0, len(places)):
        return None
    share = (place - places[i - 1]) / (places[i] - places[i - 1])
    return gains[i - 1] + share * (gains[i] - gains[i - 1])


def _area(front: Sequence[tuple[float, float]]) -> float:
    """Under the steps of a front, up to its largest size."""
    return sum(gain * (after - place) for (place, gain), (after, _) in pairwise(front))
