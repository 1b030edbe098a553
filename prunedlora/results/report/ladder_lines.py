"""Lines that join the rungs of one training on the front chart: which trainings have one, and through which points."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary

MOST_LINES = 12
"""Trainings that all have their lines; of more, those alone that reach the front: so many lines are a grey cloud."""


@dataclass(frozen=True)
class LadderLine:
    points: tuple[Point, ...]
    """As they were trained, smallest first; two at least."""
    reaches_front: bool
    """Whether a candidate of the training, cut or not, is on the front."""


@dataclass(frozen=True)
class LadderLines:
    lines: tuple[LadderLine, ...]
    """By key."""
    num_left_out: int

    def note(self) -> str:
        """What the page says of the lines; empty where no training has a ladder."""
        if not self.lines and not self.num_left_out:
            return ""
        joins = "A thin line joins the rungs of one training."
        if not self.num_left_out:
            return joins
        if not self.lines:
            return "Lines that join the rungs of one training are left out: none reaches the front."
        reach = "1 training that reaches" if len(self.lines) == 1 else f"{len(self.lines)} trainings that reach"
        return f"{joins} Lines are drawn only for the {reach} the front."


def ladder_lines(summary: Summary) -> LadderLines:
    """The lines of a sweep, in the order of the keys."""
    rungs: dict[str, list[Point]] = {}
    for point in summary.points:
        if point.candidate.rung is not None and point.candidate.cut is None:
            rungs.setdefault(point.key, []).append(point)
    on_front = {point.key for point in summary.front}
    lines = [_line(points, key in on_front) for key, points in rungs.items() if len(points) > 1]
    shown = lines if len(lines) <= MOST_LINES else [line for line in lines if line.reaches_front]
    return LadderLines(tuple(shown), len(lines) - len(shown))


def _line(points: Sequence[Point], reaches_front: bool) -> LadderLine:
    # Down the ladder where two rungs are equally large on this axis (largest rank, served slot).
    ordered = sorted(points, key=lambda point: (point.size, -point.step))
    return LadderLine(tuple(ordered), reaches_front)
