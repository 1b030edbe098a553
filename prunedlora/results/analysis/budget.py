"""Which adapter to ship: the smallest that is about as good as the best."""

from collections.abc import Iterable, Sequence

from prunedlora.results.analysis.pareto import Objectives, Point


def recommend(points: Sequence[Point], objectives: Objectives, within: float = 0.01) -> Point | None:
    """The smallest adapter whose quality is at most `within` worse than the best adapter's.

    `within` is in units of the quality figure (0.01 is one point of accuracy), on the validation split. Only candidates
    with an adapter file count, for the best as for the smallest: the others cannot be shipped. Of all such points it is
    on the front; of equally small ones it is the best, then the first by key and step. None when no candidate has a
    file. Raises ValueError when `within` is negative.
    """
    if within < 0:
        raise ValueError(f"within must be at least 0, got {within}")
    shippable = [point for point in points if point.has_file]
    if not shippable:
        return None
    best = max(objectives.gain(point.quality.value) for point in shippable)
    return smallest_within(shippable, objectives, best, within)


def smallest_within(points: Iterable[Point], objectives: Objectives, best: float, within: float) -> Point | None:
    """The smallest of the points that measured at most `within` worse than `best`, a quality with its sign such that
    more is better; of equally small ones the best, then the first by key and step. None where none did."""
    # Slack for rounding: a candidate exactly `within` below the best is one that is meant.
    least = best - within - 1e-12 * max(1.0, abs(best))
    near = [point for point in points if objectives.gain(point.quality.value) >= least]
    return min(
        near, key=lambda point: (point.size, -objectives.gain(point.quality.value), point.key, point.step), default=None
    )
