"""The decision of a store: which adapter to ship, and how much worse than the best it may be.

One rule everywhere (page, terminal, JSON, exported folder, card): the smallest adapter that was *measured* at most
`within` worse than the best (`budget.recommend`). Beside it stands what is *proven* of it and of every other: at most
how much worse than the best it truly is, for all of them at once, so that any margin may be chosen afterwards. What is
asked is of these adapters, as they are; what other trainings of their settings would give is another question
(over_seeds.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from prunedlora.results.analysis.budget import recommend
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.recommendation import Constraints, recommend_with_confidence
from prunedlora.results.analysis.summary import Summary

CONFIDENCE = 0.95
MARGINS = (0.0, 0.01, 0.02, 0.05)
"""Of the table of choices: what may be lost, in units of the quality (0.01 is one point of accuracy)."""
LOSS_EXAMPLES = 400
"""Of a loss: with fewer no probability is given, since what one rare example may cost is not known
(`jobs/benchmark.py coverage`)."""
NO_CONSTRAINTS = Constraints()


@dataclass(frozen=True)
class Standing:
    """An adapter beside the best one, in units of the quality."""

    point: Point
    shortfall: float
    """Measured: so much worse than the best measured; 0 for that itself."""
    bound: float | None
    """At most so much worse than the truly best, at the stated confidence, for all adapters at once; None where no
    probability can be given (`Decision.unproven` says why)."""

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
    """The best measured, the smallest of equals."""
    recommended: Standing
    """The one answer."""
    choices: tuple[Choice, ...]
    """For MARGINS and `within`, rising, each once."""
    standings: Mapping[str, Standing]
    """By name, of all adapters that meet the constraints and have a file."""
    unproven: str
    """Why no probability is given, a sentence; empty where one is."""
    caveats: tuple[str, ...]
    """Sentences on what was not compared example by example; none where all was."""
    num_examples: int
    """That the best was measured on."""


def decide(
    summary: Summary,
    *,
    within: float | None = None,
    confidence: float = CONFIDENCE,
    constraints: Constraints = NO_CONSTRAINTS,
    seed: int = 0,
) -> Decision | None:
    """The decision. `within`: None takes the sweep's margin. None where no candidate has an adapter file.

    Raises RequestError where none meets the constraints, and for margins and confidences that are none; RecordError for
    broken outcomes.
    """
    margin = summary.within if within is None else within
    found = recommend_with_confidence(summary, within=margin, confidence=confidence, constraints=constraints, seed=seed)
    if found is None:
        return None
    gain = summary.objectives.gain
    allowed = [p for p in summary.points if p.candidate.adapter_path is not None and not constraints.excess(p)]
    best = min(allowed, key=lambda p: (-gain(p.quality.value), p.size, p.key, p.candidate.name))
    standings = {
        point.name: Standing(point, gain(best.quality.value) - gain(point.quality.value), found.bound_of(point))
        for point in allowed
    }

    def choice(one: float) -> Choice:
        measured = recommend(allowed, summary.objectives, one)
        assert measured is not None
        proven = [standing for standing in standings.values() if standing.is_proven(one)]
        return Choice(one, standings[measured.name], min(proven, key=lambda s: s.point.size, default=None))

    choices = tuple(choice(one) for one in sorted({*MARGINS, margin}))
    return Decision(
        within=margin,
        confidence=confidence,
        best=standings[best.name],
        recommended=next(one.standing for one in choices if one.margin == margin),
        choices=choices,
        standings=standings,
        unproven="",
        caveats=found.caveats,
        num_examples=best.quality.num_examples,
    )
