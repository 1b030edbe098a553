"""Which adapter to ship, said with confidence: the smallest that is proven to cost at most so much quality.

Proven on the validation examples, on which all candidates were scored, by the paired bootstrap of confidence.py and for
all smaller candidates at once. Where nothing can be proven the best one is named, and what would settle it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.results.confidence import NUM_DRAWS, Floats, draw_means, shortfall_bounds
from prunedlora.results.pareto import Point
from prunedlora.results.record import ExampleOutcomes
from prunedlora.results.serving import slot_bytes_of
from prunedlora.results.summary import Summary

SCREEN = 4.0
"""Standard errors (of two independent figures) beyond `within` at which a candidate is not worth a comparison."""


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

    def excess(self, point: Point) -> dict[str, float]:
        """Constraint → how many times its limit the candidate is, where it is above. Raises ObjectiveError for a limit
        on the slot's bytes where they are not on record."""
        candidate = point.candidate
        pairs: dict[str, tuple[float, int | None]] = {
            "parameters": (candidate.adapter_params, self.max_params),
            "bytes": (candidate.adapter_bytes, self.max_bytes),
            "largest rank": (candidate.max_rank, self.max_rank),
        }
        if self.max_slot_bytes is not None:
            pairs["bytes of the served slot"] = (slot_bytes_of(candidate), self.max_slot_bytes)
        return {name: value / limit for name, (value, limit) in pairs.items() if limit is not None and value > limit}


@dataclass(frozen=True)
class Rival:
    """A candidate smaller than the best, and what is known of how much worse it is."""

    point: Point
    shortfall: float
    """Measured, in units of the quality; negative: measured better."""
    bound: float
    """Upper bound at the stated confidence, for all rivals at once."""


@dataclass(frozen=True)
class Recommendation:
    point: Point
    best: Point
    within: float
    confidence: float
    rivals: tuple[Rival, ...]
    """All that were compared with the best, smallest first."""
    paired: bool
    """Whether the outcomes of every example were there; otherwise standard errors were taken for independent."""
    num_examples: int

    def bound_of(self, point: Point) -> float | None:
        """At most so much worse than the best at the stated confidence; None for a candidate that was not compared."""
        bounds = {rival.point.name: rival.bound for rival in self.rivals} | {self.best.name: 0.0}
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
    def examples_needed(self) -> int | None:
        """Validation examples with which the smallest open rival would be settled, if it stays as it measured."""
        settled = [rival for rival in self.open if rival.shortfall < self.within]
        if not settled:
            return None
        rival = settled[0]
        return math.ceil(self.num_examples * ((rival.bound - rival.shortfall) / (self.within - rival.shortfall)) ** 2)


def recommend_with_confidence(
    summary: Summary, *, within: float, confidence: float, constraints: Constraints, seed: int = 0
) -> Recommendation | None:
    """The smallest adapter that is proven at most `within` worse than the best one under the constraints.

    None when no candidate has an adapter file. Raises RequestError when none meets the constraints, for a `within`
    below 0, and for a `confidence` that is no share between one half and one.
    """
    if not within >= 0:
        raise RequestError(f"within must be at least 0, got {within:g}")
    if not 0.5 <= confidence < 1:
        raise RequestError(f"confidence must lie in [0.5, 1), got {confidence:g}")
    shippable = [point for point in summary.points if point.candidate.adapter_path is not None]
    if not shippable:
        return None
    allowed = [point for point in shippable if not constraints.excess(point)]
    if not allowed:
        raise RequestError(_nearest(shippable, constraints))
    gain = summary.objectives.gain
    best = min(allowed, key=lambda p: (-gain(p.quality.value), p.size, p.key, p.candidate.name))

    def shortfall(point: Point) -> float:
        return gain(best.quality.value) - gain(point.quality.value)

    def worth_comparing(point: Point) -> bool:
        noise = math.hypot(point.quality.stderr or 0.0, best.quality.stderr or 0.0)
        return point.size < best.size and shortfall(point) <= within + SCREEN * noise

    smaller = sorted(filter(worth_comparing, allowed), key=lambda p: (p.size, shortfall(p), p.key, p.candidate.name))
    draws, paired = _draws(summary, [best, *smaller], np.random.default_rng(seed))
    means = np.array([gain(point.quality.value) for point in [best, *smaller]])
    bounds = shortfall_bounds(means, draws, 0, range(1, len(means)), confidence)
    rivals = [Rival(point, shortfall(point), float(bound)) for point, bound in zip(smaller, bounds, strict=True)]
    proven = [rival.point for rival in rivals if rival.bound <= within]
    return Recommendation(
        point=proven[0] if proven else best,
        best=best,
        within=within,
        confidence=confidence,
        rivals=tuple(rivals),
        paired=paired,
        num_examples=best.quality.num_examples,
    )


def knee(summary: Summary) -> Point | None:
    """The candidate of the front where a larger one stops paying: furthest above the line between the front's ends, on
    a logarithmic axis of sizes. None for a front of fewer than three candidates of a size above 0."""
    ends = [point for point in summary.front if point.size > 0 and point.candidate.adapter_path is not None]
    if len(ends) < 3:
        return None
    sizes = np.log([point.size for point in ends])
    gains = np.array([summary.objectives.gain(point.quality.value) for point in ends])
    place = (sizes - sizes[0]) / (sizes[-1] - sizes[0])
    height = (gains - gains[0]) / (gains[-1] - gains[0])
    return ends[int(np.argmax(height - place))]


def _draws(summary: Summary, points: Sequence[Point], rng: np.random.Generator) -> tuple[Floats, bool]:
    """(NUM_DRAWS, C) resampled qualities, more is better; paired when all were scored on the same examples and every
    outcome is on record."""
    sign = 1.0 if summary.objectives.maximize else -1.0
    found = [summary.store.read_outcomes(point.key, point.candidate.name) for point in points]
    outcomes = [one for one in found if one is not None]
    lengths = {len(one.loss_sums) for one in outcomes}
    # A baseline may have been trained, and scored, on other data than the rest.
    data = {json.dumps(point.record.environment.data.get("fingerprint")) for point in points}
    if len(outcomes) == len(points) and len(lengths) == len(data) == 1:
        scores, weights = _scores(outcomes, summary.objectives.quality)
        return sign * draw_means(scores, weights, rng), True
    values = np.array([point.quality.value for point in points])
    spreads = np.array([point.quality.stderr or 0.0 for point in points])
    return sign * (values + spreads * rng.standard_normal((NUM_DRAWS, len(points)))), False


def _scores(outcomes: Sequence[ExampleOutcomes], quality: str) -> tuple[Floats, Floats | None]:
    if quality == "loss":
        sums = np.array([one.loss_sums for one in outcomes], dtype=np.float64)
        return sums, np.array([one.num_targets for one in outcomes], dtype=np.float64)
    return np.array([one.correct[quality] for one in outcomes], dtype=np.float64), None


def _nearest(points: Sequence[Point], constraints: Constraints) -> str:
    point = min(points, key=lambda p: (max(constraints.excess(p).values()), p.key, p.candidate.name))
    over = ", ".join(f"{name} {factor:.3g} times the limit" for name, factor in constraints.excess(point).items())
    return f"no candidate meets the constraints; {point.name} comes nearest: {over}"
