"""Methods, not adapters: what settings that were trained with several seeds tell of what each group's settings give.

At a size, the best settings of one group that are no larger stand against the best of the other. All pairs of settings
are bounded at once (over_seeds.py), so that the luck of those which came out as the best is paid for:

    max q_a − max q_c ≥ max_a min_c low(a, c)    and    ≤ min_c max_a high(a, c)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.results.analysis.configurations import configurations, identity
from prunedlora.results.analysis.example_errors import rare_cost, why_no_probability
from prunedlora.results.analysis.over_seeds import mean_and_error, mean_contrasts
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.analysis.seeds_condition import fallen_text
from prunedlora.results.comparison.groups import Group
from prunedlora.results.comparison.resampling import draw_sample, outcomes_of
from prunedlora.results.comparison.verdicts import Matched, Overall, overall, verdict_of
from prunedlora.results.record import ExampleOutcomes, Figure
from prunedlora.results.recorded_settings import flat

RATE = "optimizer.learning_rate"
ONE_EACH = "one training each"
"""Why nothing is told of two methods that were not repeated."""


@dataclass(frozen=True)
class Settings:
    """Trainings that differ in their seed alone."""

    points: tuple[Point, ...]
    """What each left, in the order of the seeds."""
    outcomes: tuple[ExampleOutcomes | None, ...]
    num_failed: int
    """Trainings that failed through these settings, or left nothing here: they were stopped, say."""

    @property
    def name(self) -> str:
        return self.points[0].name

    @property
    def size(self) -> float:
        """The largest over the seeds: where layers share a budget, they differ by less than a component."""
        return max(point.size for point in self.points)

    @property
    def quality(self) -> Figure:
        """Mean over the seeds, and its standard error over them."""
        mean, stderr = mean_and_error([point.quality.value for point in self.points])
        fewest = min(point.quality.num_examples for point in self.points)
        return Figure(value=mean, stderr=stderr, num_examples=fewest)

    @property
    def seeds(self) -> list[int | None]:
        """None where the record's configuration has no number for it."""
        found = [point.record.config.get("seed") for point in self.points]
        return [seed if isinstance(seed, int) else None for seed in found]

    @property
    def is_telling(self) -> bool:
        """Whether a mean can be bounded: several seeds, of which none failed, each with a known error."""
        known = all(point.quality.stderr is not None for point in self.points)
        return len(self.points) > 1 and self.num_failed == 0 and known


@dataclass(frozen=True)
class MethodContrast:
    """One group's settings against the control's."""

    at: tuple[Matched[Settings], ...]
    """At every size from which on something changes, rising."""
    why_not: str
    """Why nothing can be told, without a full stop; empty where something can."""
    fallen: tuple[str, ...] = ()
    """Of settings in `at`, which of their trainings fell far below the others."""

    @property
    def fewest_seeds(self) -> int:
        """Of the side with fewer, at whichever size; there must be one."""
        return min(len(of.points) for one in self.at for of in (one.group, one.control))

    @property
    def verdict(self) -> Overall:
        return overall([one.verdict for one in self.at]) if self.at else "unknown"


def repeated_settings(group: Group) -> list[Settings]:
    """Those of the group that were trained with several seeds, failed ones among them; what a node, a storage or a
    user broke tells nothing of them and is no training. Of settings that were confirmed, the fresh trainings alone:
    what was chosen to be confirmed was lucky."""
    confirmed = {identity(record) for record in group.records if record.key in group.confirming}
    records = [one for one in group.records if one.key in group.confirming or identity(one) not in confirmed]
    keys = {record.key for record in records}
    found = [
        (one, one.num_failed + sum(record.failure is None for record in one.missing))
        for one in configurations([point for point in group.trained if point.key in keys], records)
    ]
    return [
        Settings(
            points := tuple(sorted(one.points, key=lambda point: (str(point.record.config.get("seed")), point.key))),
            tuple(outcomes_of([(group, point) for point in points])),
            num_failed,
        )
        for one, num_failed in found
        if len(one.points) + num_failed > 1
    ]


def contrast_methods(
    named: Sequence[tuple[str, Sequence[Settings]]],
    objectives: Objectives,
    *,
    within: float,
    confidence: float,
    rng: np.random.Generator,
) -> list[MethodContrast]:
    """Every group, by its name and its settings, against the first; bounds hold for all of them and all sizes at once.

    Raises ComparisonError for losses over different targets.
    """
    telling = [[one for one in settings if one.is_telling] for _, settings in named]
    why_not = [
        _why_not([named[0], other], [telling[0], own]) for other, own in zip(named[1:], telling[1:], strict=True)
    ]
    rivals = [number for number, why in enumerate(why_not, start=1) if not why]
    every = [(number, one) for number in (0, *rivals) for one in telling[number]]
    points = [point for _, one in every for point in one.points]
    if not rivals:
        return [MethodContrast((), why) for why in why_not]
    outcomes = [each for _, one in every for each in one.outcomes]
    if why := why_no_probability(points, objectives.quality, outcomes):
        return [MethodContrast((), one or why) for one in why_not]
    owner = np.repeat(np.arange(len(every)), [len(one.points) for _, one in every])
    sample = draw_sample(points, outcomes, owner, objectives, rng)
    columns = {number: [c for c, (of, _) in enumerate(every) if of == number] for number in (0, *rivals)}
    pairs = [(a, c) for number in rivals for a in columns[number] for c in columns[0]]
    gains = np.array([objectives.gain(point.quality.value) for point in points])
    bounds = mean_contrasts(
        [gains[owner == c] for c in range(len(every))],
        [sample.errors[:, owner == c] for c in range(len(every))],
        pairs,
        confidence,
        rng,
        resolution=float(sample.steps.max()),
        rare=rare_cost(points, outcomes, owner, objectives),
        seeds=[one.seeds for _, one in every],
    )
    bound = dict(zip(pairs, bounds, strict=True))

    def at(number: int, size: float) -> Matched[Settings]:
        ours, theirs = ([c for c in columns[of] if every[c][1].size <= size] for of in (number, 0))
        a, c = (max(some, key=lambda c: objectives.gain(every[c][1].quality.value)) for some in (ours, theirs))
        low = max(min(bound[one, other].low for other in theirs) for one in ours)
        high = min(max(bound[one, other].high for one in ours) for other in theirs)
        best, rival = every[a][1], every[c][1]
        return Matched(
            size=size,
            group=best,
            control=rival,
            group_choices=len(ours),
            control_choices=len(theirs),
            difference=bound[a, c].difference,
            low=low,
            high=high,
            paired=sample.are_paired(np.flatnonzero((owner == a) | (owner == c)).tolist()),
            verdict=verdict_of(low, high, within),
        )

    def sizes(number: int) -> list[float]:
        own, others = ([one.size for one in telling[of]] for of in (number, 0))
        return sorted({size for size in (*own, *others) if size >= max(min(own), min(others))})

    def told(number: int) -> MethodContrast:
        found = tuple(at(number, size) for size in sizes(number))
        return MethodContrast(found, "", _fallen(found, objectives, within))

    return [MethodContrast((), why) if why else told(number) for number, why in enumerate(why_not, start=1)]


def _fallen(at: Sequence[Matched[Settings]], objectives: Objectives, within: float) -> tuple[str, ...]:
    """For each of the settings, once, which of their trainings fell far below the others."""
    found = {}
    for one in (side for each in at for side in (each.group, each.control)):
        figures = [point.quality for point in one.points]
        found[one.name] = fallen_text(figures, within, maximize=objectives.maximize)
    return tuple(f"Of the settings of {name} {text}." for name, text in found.items() if text)


def rates_text(groups: Sequence[Group]) -> str:
    """Where a group was trained at one learning rate alone; empty where each was at several, or none is on record."""
    rates = {group.name: {flat(record.config).get(RATE) for record in group.records} - {None} for group in groups}
    untuned = [name for name, tried in rates.items() if len(tried) == 1]
    tuned = [f"{name} {len(tried)}" for name, tried in rates.items() if len(tried) > 1]
    if not untuned:
        return ""
    if not tuned:
        return f"Untuned: {' and '.join(untuned)} were each trained at one learning rate."
    return (
        f"Not tuned alike: {' and '.join(untuned)} had one learning rate, {' and '.join(tuned)}; a better rate may "
        f"help {' and '.join(untuned)}."
    )


def _why_not(named: Sequence[tuple[str, Sequence[Settings]]], telling: Sequence[Sequence[Settings]]) -> str:
    once = [name for name, settings in named if not settings]
    if once:
        return ONE_EACH + ("" if len(once) == len(named) else f" of {once[0]}")
    lost = [name for (name, _), own in zip(named, telling, strict=True) if not own]
    return (
        f"of all settings of {' and of '.join(lost)} that were repeated a training failed or left nothing"
        if lost
        else ""
    )
