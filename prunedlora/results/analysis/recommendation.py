"""Which adapter to ship, said with confidence: the smallest that is proven to cost at most so much quality.

Proven on the validation examples, on which all candidates were scored, over the seeds where there are several, by the
bounds of confidence.py and for all smaller candidates at once. Where nothing can be proven the best one is named, and
what would settle it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, hypot, isfinite

import numpy as np

from prunedlora.results.analysis.confidence import NUM_DRAWS, means_over_seeds, seed_noise, shortfall_bounds
from prunedlora.results.analysis.configurations import Configuration, configurations
from prunedlora.results.analysis.example_errors import LOSS, example_errors, step_of_one
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.analysis.serving import slot_bytes_of
from prunedlora.results.analysis.summary import Summary

SCREEN = 4.0
"""Standard errors (of two independent figures) beyond `within` at which a candidate is not worth a comparison."""


LEAST_ROOM = 0.05
"""Share of its error that a rival must have measured below the limit: nearer, it takes over 400 times the examples."""


class RequestError(ValueError):
    """Something was asked that cannot be met; the message says what would be."""


@dataclass(frozen=True)
class Constraints:
    """What an adapter must not exceed; None: anything goes."""

    max_params: int | None = None
    max_bytes: int | None = None
    max_rank: int | None = None
    """Largest rank of a layer, as a server's slot has it."""
    max_slot_bytes: int | None = None
    """Of the served slot, in half precision."""

    def excess(self, point: Point) -> dict[str, tuple[float, int]]:
        """Constraint → what the candidate has and the limit, where it is above. Raises ObjectiveError for a limit on
        the slot's bytes where they are not on record."""
        candidate = point.candidate
        pairs: dict[str, tuple[float, int | None]] = {
            "parameters": (candidate.adapter_params, self.max_params),
            "bytes": (candidate.adapter_bytes, self.max_bytes),
            "largest rank": (candidate.max_rank, self.max_rank),
        }
        if self.max_slot_bytes is not None:
            pairs["bytes of the served slot"] = (slot_bytes_of(candidate), self.max_slot_bytes)
        return {name: (value, limit) for name, (value, limit) in pairs.items() if limit is not None and value > limit}


@dataclass(frozen=True)
class Rival:
    """A configuration smaller than the best, and what is known of how much worse it is."""

    configuration: Configuration
    shortfall: float
    """Measured, in units of the quality; negative: measured better."""
    bound: float
    """Upper bound at the stated confidence, for all rivals at once; infinite where nothing is known."""
    width: float
    """From the shortfall to the bound."""
    width_if_known: float
    """The same if the noise of the seeds were known."""
    example_variance: float
    """Of the shortfall, through the examples."""
    seed_variance: float
    """Of the shortfall, through the seeds."""

    @property
    def point(self) -> Point:
        return self.configuration.point


@dataclass(frozen=True)
class Remedy:
    """One way to settle whether the smallest open rival is good enough, if it stays as it measured."""

    num_examples: int | None
    """Validation examples in all; None: as many as now."""
    num_seeds: int | None
    """Trainings each of the best and of the rival, with seeds of their own; None: as many as now."""


@dataclass(frozen=True)
class Recommendation:
    chosen: Configuration
    best_configuration: Configuration
    within: float
    confidence: float
    rivals: tuple[Rival, ...]
    """All that were compared with the best, smallest first."""
    caveats: tuple[str, ...]
    """Sentences on what was not compared example by example; empty: all was."""
    num_examples: int
    seed_deviation: float | None
    """Standard deviation of the quality over seeds, which the bounds hold; None: none of them was trained twice, and
    they do not."""
    seed_degrees: int
    """Degrees of freedom that it was estimated with: trainings that repeat others with another seed."""

    @property
    def point(self) -> Point:
        """The adapter to ship: of the chosen configuration's seeds the best measured."""
        return self.chosen.point

    @property
    def best(self) -> Point:
        return self.best_configuration.point

    @property
    def paired(self) -> bool:
        """Whether all were compared example by example; otherwise some standard errors were taken for independent."""
        return not self.caveats

    def bound_of(self, point: Point) -> float | None:
        """At most so much worse than the best at the stated confidence; None for a candidate that was not compared."""
        compared = [(rival.configuration, rival.bound) for rival in self.rivals] + [(self.best_configuration, 0.0)]
        bounds = {member.name: bound for configuration, bound in compared for member in configuration.points}
        return bounds.get(point.name)

    @property
    def beaten(self) -> tuple[Rival, ...]:
        """Larger candidates than `point` that were proven good enough too, largest first."""
        return tuple(r for r in reversed(self.rivals) if r.bound <= self.within and r.point.name != self.point.name)

    @property
    def open(self) -> tuple[Rival, ...]:
        """Smaller ones that measured well enough, but are not proven; smallest first."""
        return tuple(
            rival
            for rival in self.rivals
            if rival.point.size < self.point.size and rival.shortfall <= self.within < rival.bound
        )

    @property
    def unsettled(self) -> Rival | None:
        """The smallest open one that more runs would settle: it measured below the limit, and its error is known."""
        return next(
            (r for r in self.open if isfinite(r.bound) and r.shortfall < self.within - LEAST_ROOM * r.width), None
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What would settle `unsettled`, each by itself: more examples, more seeds; where neither would, both at once.

        From the variances as estimated: about so many.
        """
        rival = self.unsettled
        if rival is None:
            return ()
        room = self.within - rival.shortfall
        variance = rival.example_variance + rival.seed_variance
        by_examples, by_seeds = (variance * (room / width) ** 2 for width in (rival.width, rival.width_if_known))
        found = []
        if rival.seed_variance < by_examples:
            found.append(Remedy(self._examples_for(rival, by_examples - rival.seed_variance), None))
        if rival.seed_variance > 0 and rival.example_variance < by_seeds:
            found.append(Remedy(None, self._seeds_for(by_seeds - rival.example_variance)))
        return tuple(found) or (Remedy(self._examples_for(rival, by_seeds / 2), self._seeds_for(by_seeds / 2)),)

    def _examples_for(self, rival: Rival, variance: float) -> int:
        return ceil(self.num_examples * rival.example_variance / variance)

    def _seeds_for(self, variance: float) -> int:
        return ceil(2 * (self.seed_deviation or 0.0) ** 2 / variance)  # two means over so many each


def recommend_with_confidence(
    summary: Summary, *, within: float, confidence: float, constraints: Constraints, seed: int = 0
) -> Recommendation | None:
    """The smallest adapter that is proven at most `within` worse than the best one under the constraints.

    A configuration that was trained with several seeds is judged by its mean over those that meet the constraints, also
    those whose adapter file is gone; what is shipped has one. None when no candidate has an adapter file. Raises
    RequestError when none with a file meets the constraints, for a `within` that is negative, infinite or no difference
    of shares, and for a `confidence` that is no share between one half and one.
    """
    _check(summary.objectives, within, confidence)
    shippable = [point for point in summary.points if point.candidate.adapter_path is not None]
    if not shippable:
        return None
    allowed = [point for point in summary.points if not constraints.excess(point)]
    measured_ones = configurations(allowed, summary.records, summary.objectives)
    found = [configuration for configuration in measured_ones if configuration.is_shippable]
    if not found:
        raise RequestError(_nearest(shippable, constraints))
    gain = summary.objectives.gain
    best = min(found, key=lambda c: (-gain(c.mean), c.point.size, c.point.key, c.point.candidate.name))

    def shortfall(configuration: Configuration) -> float:
        return gain(best.mean) - gain(configuration.mean)

    def worth_comparing(configuration: Configuration) -> bool:
        noise = hypot(configuration.point.quality.stderr or 0.0, best.point.quality.stderr or 0.0)
        return configuration.point.size < best.point.size and shortfall(configuration) <= within + SCREEN * noise

    smaller = sorted(
        filter(worth_comparing, found), key=lambda c: (c.point.size, shortfall(c), c.point.key, c.point.candidate.name)
    )
    compared = [best, *smaller]
    points = [point for configuration in compared for point in configuration.points]
    owner = np.repeat(np.arange(len(compared)), [len(configuration.points) for configuration in compared])
    rng = np.random.default_rng(seed)
    errors = example_errors(summary.store, points, owner, summary.objectives, rng, NUM_DRAWS)
    measured = np.array([gain(point.quality.value) for point in points])
    numbers = {key: number for number, key in enumerate(dict.fromkeys(point.key for point in points))}
    trainings = np.array([numbers[point.key] for point in points])
    seeds = seed_noise(measured, errors.draws, owner, rng, trainings)
    bounds = shortfall_bounds(
        means_over_seeds(measured, owner),
        means_over_seeds(errors.draws, owner),
        0,
        range(1, len(compared)),
        confidence,
        rng,
        seeds=seeds,
        resolution=max(
            step_of_one(point, outcomes, summary.objectives.quality)
            for point, outcomes in zip(points, errors.outcomes, strict=True)
        ),
    )
    rivals = [
        Rival(configuration, shortfall(configuration), *map(float, figures))
        for configuration, *figures in zip(
            smaller,
            bounds.upper,
            bounds.width,
            bounds.width_if_known,
            bounds.example_variance,
            bounds.seed_variance,
            strict=True,
        )
    ]
    proven = [rival.configuration for rival in rivals if rival.bound <= within]
    return Recommendation(
        chosen=proven[0] if proven else best,
        best_configuration=best,
        within=within,
        confidence=confidence,
        rivals=tuple(rivals),
        caveats=tuple(errors.caveats()),
        num_examples=best.point.quality.num_examples,
        seed_deviation=None if seeds is None else seeds.deviation,
        seed_degrees=0 if seeds is None else seeds.degrees,
    )


def knee(summary: Summary) -> Point | None:
    """The candidate of the front where a larger one stops paying: furthest above the line between the front's ends, on
    a logarithmic axis of sizes. None for a front of fewer than three candidates of a size above 0."""
    ends = [point for point in summary.front if point.size > 0 and point.candidate.adapter_path is not None]
    if len(ends) < 3:
        return None
    sizes = np.log([point.size for point in ends])
    gains = np.array([summary.objectives.gain(point.quality.value) for point in ends])
    position = (sizes - sizes[0]) / (sizes[-1] - sizes[0])
    height = (gains - gains[0]) / (gains[-1] - gains[0])
    return ends[int(np.argmax(height - position))]


def _check(objectives: Objectives, within: float, confidence: float) -> None:
    if not (within >= 0 and isfinite(within)):
        raise RequestError(f"within must be at least 0 and finite, got {within:g}")
    if objectives.quality != LOSS and within >= 1:
        raise RequestError(
            f"within must be less than 1, a difference in {objectives.quality}, got {within:g}; one point is 1pt"
        )
    if not 0.5 <= confidence < 1:
        raise RequestError(f"confidence must lie in [0.5, 1), got {confidence:g}")


def _nearest(points: Sequence[Point], constraints: Constraints) -> str:
    def worst(point: Point) -> float:
        return max(value / limit for value, limit in constraints.excess(point).values())

    point = min(points, key=lambda p: (worst(p), p.key, p.candidate.name))
    over = ", ".join(
        f"{name} {value:,}, {value / limit:.3g} times the limit of {limit:,}"
        for name, (value, limit) in constraints.excess(point).items()
    )
    return f"no candidate meets the constraints; {point.name} comes nearest: {over}"
