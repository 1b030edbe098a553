"""Comparison of groups of trials: whose front is better at which sizes, by how much, and what of it is sure.

One group is the control, every other is compared with it. At a size, the best adapter of one group that is no larger
stands against the best of the other; bounds hold for all sizes and groups at once (simultaneous.py).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from prunedlora.results.analysis.example_errors import data_of
from prunedlora.results.analysis.nameable import SCREEN
from prunedlora.results.analysis.pareto import Objectives, Point, Reference, hypervolume, reference
from prunedlora.results.comparison.groups import ComparisonError, Group
from prunedlora.results.comparison.resampling import Columns, Sample, draw_sample, stderr_of
from prunedlora.results.comparison.simultaneous import Indices, contenders, critical_value, spreads

NUM_BUDGETS = 4
"""Sizes of the table, evenly on a logarithmic scale, beside those of the recommended adapters."""

Verdict = Literal["better", "worse", "equal", "unknown"]


@dataclass(frozen=True)
class Matched:
    """The best adapters of two groups up to one size. Differences are in units of the quality, above 0 where the group
    is better than the control; bounds are for the truly best adapters of the two, which may be others."""

    size: float
    group: Point
    control: Point
    group_choices: int
    """Candidates no larger than `size`, of which the best was picked."""
    control_choices: int
    difference: float
    low: float
    high: float
    paired: bool
    """Whether both were scored on the same examples, and every outcome is on record."""
    verdict: Verdict
    """better: `group` is surely better than all of the control's; worse: the reverse; equal: the truly best of both are
    surely no more than the margin apart; unknown: nothing of these is sure."""


@dataclass(frozen=True)
class Shares:
    """Parts of the sizes that both tried, on a logarithmic scale, on which the group is …"""

    better: float
    worse: float
    surely_better: float
    surely_worse: float


@dataclass(frozen=True)
class Contrast:
    """One group against the control."""

    group: Group
    matched: tuple[Matched, ...]
    """At every size from which on something changes, rising."""
    budgets: tuple[Matched, ...]
    """Of them, those for the table."""
    common: tuple[float, float] | None
    """The sizes that both tried, smallest and largest; None when one's are all below the other's."""
    shares: Shares | None
    same_data: bool

    @property
    def changes(self) -> tuple[Matched, ...]:
        """`matched` without those that repeat the pair before them, but with the last: where the range ends."""
        pairs = [(one.group.name, one.control.name) for one in self.matched]
        last = len(pairs) - 1
        return tuple(one for i, one in enumerate(self.matched) if i in (0, last) or pairs[i] != pairs[i - 1])


@dataclass(frozen=True)
class Comparison:
    objectives: Objectives
    groups: tuple[Group, ...]
    """The control first."""
    contrasts: tuple[Contrast, ...]
    hypervolumes: tuple[float, ...]
    """Of the groups, up to the same reference point."""
    reference: Reference
    within: float
    """The margin up to which two adapters count as equal; also how much worse than the best a recommended one is."""
    confidence: float
    critical_values: tuple[float, float]
    """Standard errors from the measured difference down to the lower bounds, and up to the upper ones."""
    num_running: int
    """Candidates that could have come out as the best of their group at some size."""

    @property
    def control(self) -> Group:
        return self.groups[0]


def compare(
    groups: Sequence[Group], *, within: float, confidence: float, against: str | None = None, seed: int = 0
) -> Comparison:
    """Compares every group with the control: the one named `against`, by default the first.

    Raises ComparisonError for fewer than two groups, an unknown `against`, a `within` below 0, a `confidence` that is
    no share between one half and one, and for figures that say nothing of their error or are not comparable.
    """
    check_margins(within, confidence)
    names = [group.name for group in groups]
    if len(groups) < 2:
        raise ComparisonError(f"one group alone is no comparison: {', '.join(names)}")
    if against is not None and against not in names:
        raise ComparisonError(f"against {against!r}: there are {', '.join(map(repr, names))}")
    control = next(group for group in groups if against in (None, group.name))
    others = [group for group in groups if group is not control]
    sizes = [_sizes(control, other) for other in others]
    columns = Columns()
    gained = [pair for other, at in zip(others, sizes, strict=True) for pair in _running(other, control, at, columns)]
    lost = [pair for other, at in zip(others, sizes, strict=True) for pair in _running(control, other, at, columns)]
    sample = draw_sample(columns.order, np.random.default_rng(seed))
    # Half of the doubt for claiming too much for the groups, half for claiming too little.
    low, high = (critical_value(sample.errors, sample.steps, pairs, (1 + confidence) / 2) for pairs in (gained, lost))
    contrasts = tuple(
        _contrast(control, other, at, columns, sample, (low, high), within)
        for other, at in zip(others, sizes, strict=True)
    )
    ordered = (control, *others)
    origin = common_reference(ordered)
    return Comparison(
        objectives=control.objectives,
        groups=ordered,
        contrasts=contrasts,
        hypervolumes=tuple(hypervolume(group.points, group.objectives, origin) for group in ordered),
        reference=origin,
        within=within,
        confidence=confidence,
        critical_values=(low, high),
        num_running=len(columns.order),
    )


def check_margins(within: float, confidence: float) -> None:
    """Raises ComparisonError for a margin below 0 or without end, and a confidence outside [0.5, 1)."""
    if not (within >= 0 and math.isfinite(within)):
        raise ComparisonError(f"within must be at least 0 and finite, got {within:g}")
    if not 0.5 <= confidence < 1:
        raise ComparisonError(f"confidence must lie in [0.5, 1), got {confidence:g}")


def common_reference(groups: Sequence[Group]) -> Reference:
    """The point that the hypervolumes of all groups are measured from: that of a sweep which held all their candidates.

    Where it is the base model's quality, and the groups have different ones, the worst of them.
    """
    objectives = groups[0].objectives
    bases = [group.base for group in groups if group.base is not None and objectives.quality in group.base.figures]
    if len(bases) < len(groups):
        return reference([point for group in groups for point in group.points], objectives, None)
    base = min(bases, key=lambda base: objectives.gain(base.figures[objectives.quality].value))
    found = reference([point for group in groups for point in group.points], objectives, base)
    if len({base.figures[objectives.quality].value for base in bases}) == 1:
        return found
    return replace(found, rule=found.rule.replace("of the base model", "of the worst base model"))


def _sizes(control: Group, other: Group) -> list[float]:
    """Sizes at which the best of either may change: in the range that both tried, and the recommended ones."""
    tried = [[point.size for point in group.points] for group in (control, other)]
    first, last = max(map(min, tried)), min(map(max, tried))
    recommended = [group.recommended.size for group in (control, other) if group.recommended is not None]
    inside = {size for sizes in tried for size in sizes if first <= size <= last}
    return sorted({first} | inside | {size for size in recommended if size >= first})


def _running(group: Group, other: Group, limits: Sequence[float], columns: Columns) -> list[tuple[int, Indices]]:
    """Each measured best of `other`, and the candidates of `group` that could have been compared with it."""
    running = contenders(
        np.array([group.objectives.gain(point.quality.value) for point in group.points]),
        np.array([stderr_of(group, point) for point in group.points]),
        np.array([point.size for point in group.points]),
        np.array(limits),
        SCREEN,
    )
    found: dict[int, set[int]] = {}
    for limit, row in zip(limits, running, strict=True):
        best = columns.of(other, other.best_within(limit))
        found.setdefault(best, set()).update(columns.of(group, group.points[i]) for i in np.flatnonzero(row))
    return [(best, np.array(sorted(some))) for best, some in found.items()]


def _contrast(
    control: Group,
    other: Group,
    sizes: Sequence[float],
    columns: Columns,
    sample: Sample,
    reach: tuple[float, float],
    within: float,
) -> Contrast:
    gain = control.objectives.gain
    matched = []
    for size in sizes:
        ours, theirs = other.best_within(size), control.best_within(size)
        a, c = columns.of(other, ours), columns.of(control, theirs)
        spread = float(spreads(sample.errors, sample.steps, a, np.array([c]))[0])
        difference = gain(ours.quality.value) - gain(theirs.quality.value)
        low, high = difference - reach[0] * spread, difference + reach[1] * spread
        matched.append(
            Matched(
                size=size,
                group=ours,
                control=theirs,
                group_choices=other.num_within(size),
                control_choices=control.num_within(size),
                difference=difference,
                low=low,
                high=high,
                paired=sample.examples[a] is not None and sample.examples[a] == sample.examples[c],
                verdict=_verdict(low, high, within),
            )
        )
    first, last = sizes[0], min(control.points[-1].size, other.points[-1].size)
    common = (first, last) if first <= last else None
    recommended = {group.recommended.size for group in (control, other) if group.recommended is not None}
    shown = recommended | (set() if common is None else _spread_out([size for size in sizes if size <= last]))
    return Contrast(
        group=other,
        matched=tuple(matched),
        budgets=tuple(one for one in matched if one.size in shown or common is None),
        common=common,
        shares=None if common is None else _shares([one for one in matched if one.size <= last]),
        same_data={data_of(point) for point in other.points} == {data_of(point) for point in control.points},
    )


def _verdict(low: float, high: float, within: float) -> Verdict:
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equal" if -within <= low and high <= within else "unknown"


def _spread_out(sizes: Sequence[float]) -> set[float]:
    """Some of the sizes: the largest up to each of NUM_BUDGETS that are evenly apart on a logarithmic scale."""
    positive = [size for size in sizes if size > 0]
    if not positive:
        return set(sizes)
    targets = np.geomspace(positive[0], positive[-1], NUM_BUDGETS) * (1 + 1e-9)
    return {max(size for size in positive if size <= target) for target in targets}


def _shares(matched: Sequence[Matched]) -> Shares:
    """Each comparison counts for the sizes up to the next; one size alone counts whole."""
    positive = [one for one in matched if one.size > 0] or list(matched)
    if len(positive) == 1:
        weights = [1.0]
    else:
        sizes = [math.log(one.size) for one in positive]
        widths = [after - before for before, after in itertools.pairwise(sizes)]
        weights = [width / (sizes[-1] - sizes[0]) for width in widths]

    def share(holds: list[bool]) -> float:
        return math.fsum(weight for weight, true in zip(weights, holds, strict=False) if true)

    return Shares(
        better=share([one.difference > 0 for one in positive]),
        worse=share([one.difference < 0 for one in positive]),
        surely_better=share([one.verdict == "better" for one in positive]),
        surely_worse=share([one.verdict == "worse" for one in positive]),
    )
