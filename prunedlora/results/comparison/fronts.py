"""Comparison of groups of trials: whose front is better at which sizes, by how much, and what of it is sure.

One group is the control, every other is compared with it. Two questions are answered, each for all sizes and groups at
once: which of these adapters are better, as they are (simultaneous.py), where at a size the best adapter of one group
that is no larger stands against the best of the other; and which method is (method_means.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunedlora.results.analysis.example_errors import data_of, why_no_probability
from prunedlora.results.analysis.nameable import SCREEN
from prunedlora.results.analysis.pareto import Objectives, Point, Reference, hypervolume, reference
from prunedlora.results.comparison.groups import ComparisonError, Group
from prunedlora.results.comparison.method_means import MethodContrast, contrast_methods, repeated_settings
from prunedlora.results.comparison.resampling import (
    Columns,
    Sample,
    draw_sample,
    outcomes_of,
    stderr_of,
)
from prunedlora.results.comparison.simultaneous import Indices, contenders, critical_value, spreads
from prunedlora.results.comparison.verdicts import Matched, Overall, overall, verdict_of

NUM_BUDGETS = 4
"""Sizes of the table, evenly on a logarithmic scale, beside those of the recommended adapters."""


@dataclass(frozen=True)
class Contrast:
    """One group against the control."""

    group: Group
    matched: tuple[Matched[Point], ...]
    """At every size from which on something changes, rising."""
    budgets: tuple[Matched[Point], ...]
    """Of them, those for the table."""
    common: tuple[float, float] | None
    """The sizes that both tried, smallest and largest; None when one's are all below the other's."""
    same_data: bool
    methods: MethodContrast
    """What is known of the methods, of which these are some adapters."""

    @property
    def verdict(self) -> Overall:
        """On these adapters, at all of the sizes."""
        return overall([one.verdict for one in self.matched])

    @property
    def changes(self) -> tuple[Matched[Point], ...]:
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
    unproven: str
    """Why no probability is given of these adapters, without a full stop; empty where one is."""

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
    taking_part, objectives = [point for _, point in columns.order], control.objectives
    rng, each = np.random.default_rng(seed), np.arange(len(taking_part))
    outcomes = outcomes_of(columns.order)
    sample = draw_sample(taking_part, outcomes, each, objectives, rng)
    unproven = why_no_probability(taking_part, objectives.quality, outcomes)
    # Half of the doubt for claiming too much for the groups, half for claiming too little.
    low, high = (
        critical_value(sample.errors, sample.steps, pairs, (1 + confidence) / 2, sample.rare)
        for pairs in (gained, lost)
    )
    reach = (math.inf, math.inf) if unproven else (low, high)
    ordered = (control, *others)
    methods = contrast_methods(
        [(group.name, repeated_settings(group)) for group in ordered],
        objectives,
        within=within,
        confidence=confidence,
        rng=rng,
    )
    contrasts = tuple(
        _contrast(control, other, at, columns, sample, reach, within, method)
        for other, at, method in zip(others, sizes, methods, strict=True)
    )
    origin = common_reference(ordered)
    return Comparison(
        objectives=objectives,
        groups=ordered,
        contrasts=contrasts,
        hypervolumes=tuple(hypervolume(group.points, group.objectives, origin) for group in ordered),
        reference=origin,
        within=within,
        confidence=confidence,
        critical_values=(low, high),
        num_running=len(columns.order),
        unproven=unproven,
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
    methods: MethodContrast,
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
                paired=sample.are_paired([a, c]),
                verdict=verdict_of(low, high, within),
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
        same_data={data_of(point) for point in other.points} == {data_of(point) for point in control.points},
        methods=methods,
    )


def _spread_out(sizes: Sequence[float]) -> set[float]:
    """Some of the sizes: the largest up to each of NUM_BUDGETS that are evenly apart on a logarithmic scale."""
    positive = [size for size in sizes if size > 0]
    if not positive:
        return set(sizes)
    targets = np.geomspace(positive[0], positive[-1], NUM_BUDGETS) * (1 + 1e-9)
    return {max(size for size in positive if size <= target) for target in targets}
