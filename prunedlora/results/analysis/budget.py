"""Which adapter to ship: the smallest that is about as good as the best."""

from collections.abc import Iterable, Sequence

from prunedlora.results.analysis.pareto import Objectives, Point


def recommend(points: Sequence[Point], objectives: Objectives, within: float = 0.01) -> Point | None:
    """The smallest adapter whose quality is at most `within` worse than the best adapter's.

    `within` is in units of the quality figure (0.01 is one point of accuracy), on the validation split. Only candidates
    with an adapter file count, for the best as for the smallest: the others cannot be shipped. Of all such points it is
    on the front; of equally small ones it is the best, then the first (`Point.among_equals`). None when no candidate
    has a file. Raises ValueError when `within` is negative.
    """
    if within < 0:
        raise ValueError(f"within must be at least 0, got {within}")
    best = best_to_ship(points, objectives)
    if best is None:
        return None
    shippable = [point for point in points if point.has_file]
    return smallest_within(shippable, objectives, objectives.gain(best.quality.value), within)


def best_to_ship(points: Iterable[Point], objectives: Objectives) -> Point | None:
    """The best of those with an adapter file; of equals the smallest, then the first (`Point.among_equals`). None where
    none has a file."""
    return _best([point for point in points if point.has_file], objectives)


def better_without_file(points: Iterable[Point], objectives: Objectives) -> Point | None:
    """The best of those without an adapter file, where it measured better than all that have one; else None."""
    points = list(points)
    best, without = best_to_ship(points, objectives), _best([one for one in points if not one.has_file], objectives)
    if best is None or without is None:
        return without
    gain = objectives.gain
    return without if gain(without.quality.value) > gain(best.quality.value) else None


def smallest_within(points: Iterable[Point], objectives: Objectives, best: float, within: float) -> Point | None:
    """The smallest of the points that measured at most `within` worse than `best`, a quality with its sign such that
    more is better; of equally small ones the best, then the first (`Point.among_equals`). None where none did."""
    # Slack for rounding: a candidate exactly `within` below the best is one that is meant.
    least = best - within - 1e-12 * max(1.0, abs(best))
    near = [point for point in points if objectives.gain(point.quality.value) >= least]
    return min(near, key=lambda p: (p.size, -objectives.gain(p.quality.value), p.among_equals), default=None)


def _best(points: Sequence[Point], objectives: Objectives) -> Point | None:
    return min(points, key=lambda p: (-objectives.gain(p.quality.value), p.size, p.among_equals), default=None)
