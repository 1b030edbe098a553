"""The decision of a store: which adapter to ship, and how much worse than the best it may be.

One rule everywhere (page, terminal, JSON, exported folder, card): the smallest adapter that was *measured* at most
`within` worse than the best (`budget.recommend`). Beside it stands what is *proven* of it and of every other: at most
how much worse than the truly best it truly is, for all of them at once, so that any margin may be chosen afterwards.
What is asked is of these adapters, as they are; what other trainings of their settings would give is another question
(over_seeds.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import isfinite

import numpy as np

from prunedlora.results.analysis.budget import best_to_ship, better_without_file, recommend
from prunedlora.results.analysis.confidence import NUM_DRAWS, shortfall_bounds
from prunedlora.results.analysis.configurations import Configuration, settings_of
from prunedlora.results.analysis.constraints import Constraints, check_confidence, check_margin
from prunedlora.results.analysis.example_errors import (
    LOSS,
    LOSS_WITHOUT_OUTCOMES,
    example_errors,
    one_more_example,
    rare_costs_text,
    why_no_probability,
)
from prunedlora.results.analysis.examples_needed import examples_needed
from prunedlora.results.analysis.pareto import Point, front
from prunedlora.results.analysis.summary import Summary

CONFIDENCE = 0.95
MARGINS = (0.0, 0.01, 0.02, 0.05)
"""Of the table of choices: what may be lost, in units of the quality (0.01 is one point of accuracy)."""
MOST_COMPARED = 300
"""Adapters that are bounded; of more those on the front, then the best measured."""
NO_CONSTRAINTS = Constraints()


@dataclass(frozen=True)
class Standing:
    """An adapter beside the best one, in units of the quality."""

    point: Point
    shortfall: float
    """Measured: so much worse than the best measured; 0 for that itself."""
    bound: float | None
    """Proven: at most so much worse than the truly best, at the stated confidence, for all adapters at once; None where
    no probability can be given (`Decision.unproven` says why, or `caveats`), and for what was not compared."""

    def is_proven(self, margin: float) -> bool:
        return self.bound is not None and self.bound <= margin


@dataclass(frozen=True)
class Choice:
    """What a margin buys."""

    margin: float
    standing: Standing
    """The smallest that was measured at most `margin` worse than the best."""
    proven: Standing | None
    """The smallest that is proven so; None where none is."""


@dataclass(frozen=True)
class Decision:
    within: float
    confidence: float
    best: Standing
    """The best measured of those with a file, the smallest of equals."""
    recommended: Standing
    """The one answer."""
    choices: tuple[Choice, ...]
    """For MARGINS and `within`, rising, each once."""
    standings: Mapping[str, Standing] = field(repr=False)
    """By name, of all adapters that meet the constraints and have a file."""
    settings: Configuration = field(repr=False)
    """All trainings of the recommended adapter's settings: it is one of them, and they are not what it is."""
    unproven: str
    """Why no probability is given, a sentence; empty where one is."""
    caveats: tuple[str, ...]
    """Sentences on what was not compared example by example, and what is not reckoned with."""
    is_paired: bool
    """Whether all were compared example by example."""
    num_examples: int
    """That the best was measured on."""
    num_compared: int
    """Adapters that meet the constraints, those without a file too."""
    limits: Mapping[str, float]
    """The sweep's own, which all that was compared keeps to."""
    asked: Mapping[str, float]
    """Limits that were asked for besides, by `Constraints.asked`."""
    without_file: Point | None
    """What measured better than the best, but has no adapter file; None where none did."""
    _needed: Callable[[str], int | None] = field(repr=False, compare=False)
    """Name of an adapter → how many examples would prove it within the margin."""

    @property
    def proven(self) -> Standing | None:
        """The smallest that is proven at most `within` worse than the truly best; None where none is."""
        return next(one.proven for one in self.choices if one.margin == self.within)

    @property
    def open(self) -> tuple[Standing, ...]:
        """Smaller than what is proven, measured at most `within` worse, and not proven so; smallest first."""
        limit = self.proven
        found = [
            one
            for one in self.standings.values()
            if one.shortfall <= self.within
            and one.bound is not None
            and not one.is_proven(self.within)
            and (limit is None or one.point.size < limit.point.size)
        ]
        return tuple(sorted(found, key=lambda one: (one.point.size, one.shortfall, one.point.among_equals)))

    @cached_property
    def examples_needed(self) -> int | None:
        """About so many examples, in all, would prove the recommended adapter, if all stay as they measured. None where
        it is proven, no probability can be given, or it measured so near the margin that no affordable number tells it
        from that."""
        one = self.recommended
        return None if one.bound is None or one.bound <= self.within else self._needed(one.point.name)


def decide(
    summary: Summary,
    *,
    within: float | None = None,
    confidence: float = CONFIDENCE,
    constraints: Constraints = NO_CONSTRAINTS,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
) -> Decision | None:
    """The decision; None where no candidate that keeps to the sweep's limits, which always bind, has an adapter file.
    `within`: None takes the sweep's margin. `num_draws`:
    resamplings that the bounds are from, which `seed` draws.

    Adapters whose file is gone are none to ship, but measured: the truly best may be one of them. Raises RequestError
    where none with a file meets the constraints, and for a margin and a confidence that are none; RecordError for
    broken outcomes.
    """
    if within is not None:
        check_margin(summary.objectives, within)
    check_confidence(confidence)
    margin = summary.within if within is None else within
    limits = summary.limits.limits
    shippable = summary.limits.within([point for point in summary.points if point.has_file])
    constraints = constraints.with_limits(limits)
    allowed = constraints.allowed(shippable)
    best, gain = best_to_ship(allowed, summary.objectives), summary.objectives.gain
    if best is None:
        return None
    measured = [point for point in summary.points if not constraints.excess(point)]
    found = _bounds(summary, measured, confidence, seed, num_draws)
    why_not = why_no_probability(measured, summary.objectives.quality)
    unproven = f"How much worse than the best it truly may be is not said: {why_not}." if why_not else ""
    if len(measured) == 1:
        unproven = "There was nothing to compare it with: no probability is given."
    standings = {
        point.name: Standing(
            point, gain(best.quality.value) - gain(point.quality.value), None if unproven else found.of.get(point.name)
        )
        for point in allowed
    }

    def choice(one: float) -> Choice:
        chosen = recommend(allowed, summary.objectives, one)
        assert chosen is not None
        proven = [standing for standing in standings.values() if standing.is_proven(one)]
        smallest = min(proven, key=lambda s: (s.point.size, s.shortfall, s.point.among_equals), default=None)
        return Choice(one, standings[chosen.name], smallest)

    choices = tuple(choice(one) for one in sorted({*MARGINS, margin}))
    recommended = next(one.standing for one in choices if one.margin == margin)
    return Decision(
        within=margin,
        confidence=confidence,
        best=standings[best.name],
        recommended=recommended,
        choices=choices,
        standings=standings,
        settings=settings_of(recommended.point, summary.points, summary.chosen_from),
        unproven=unproven,
        caveats=found.caveats,
        is_paired=found.is_paired,
        num_examples=best.quality.num_examples,
        _needed=partial(found.needed, within=margin, num_examples=best.quality.num_examples),
        num_compared=len(measured),
        limits=limits,
        asked=constraints.asked,
        without_file=better_without_file(measured, summary.objectives),
    )


@dataclass(frozen=True)
class _Bounds:
    of: Mapping[str, float]
    """By name, of those of which one is known."""
    caveats: tuple[str, ...]
    is_paired: bool
    needed: Callable[..., int | None]
    """As `examples_needed`, by name."""


def _bounds(summary: Summary, measured: Sequence[Point], confidence: float, seed: int, num_draws: int) -> _Bounds:
    """The bounds, and the caveats of all that were compared.

    Of more than MOST_COMPARED adapters the doubt is shared as if all were: those are a block of many as large, and a
    statement of all blocks at once leaves each its part of it (Bonferroni).
    """
    on_front = {point.name for point in front(measured, summary.objectives)}
    gain = summary.objectives.gain
    nearest = sorted(measured, key=lambda p: (p.name not in on_front, -gain(p.quality.value), p.size, p.name))
    # The best first: where data differ, others are said to be on other data than it.
    compared = sorted(nearest[:MOST_COMPARED], key=lambda p: (-gain(p.quality.value), p.size, p.name))
    rng = np.random.default_rng(seed)
    errors = example_errors(summary.store, compared, np.arange(len(compared)), summary.objectives, rng, num_draws)
    draws, caveats = errors.draws, errors.caveats()
    if summary.objectives.quality == LOSS and errors.without_outcomes:
        draws = np.where([point in errors.without_outcomes for point in compared], np.nan, draws)
        caveats.append(f"{LOSS_WITHOUT_OUTCOMES.capitalize()}.")
    means = np.array([gain(point.quality.value) for point in compared])
    shared = 1 - (1 - confidence) * len(compared) / len(measured)
    one_more = one_more_example(compared, errors.outcomes, summary.objectives)
    upper = shortfall_bounds(means, draws, shared, rng, one_more=one_more)
    numbers = {point.name: number for number, point in enumerate(compared)}

    def needed(name: str, within: float, num_examples: int) -> int | None:
        return examples_needed(means, draws, one_more, numbers[name], within, shared, num_examples, seed)

    return _Bounds(
        of={name: float(upper[number]) for name, number in numbers.items() if isfinite(upper[number])},
        caveats=(*caveats, *filter(None, [rare_costs_text(measured, summary.objectives.quality)])),
        is_paired=errors.paired,
        needed=needed,
    )
