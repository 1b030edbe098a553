"""Errors of candidates of several stores, resampled over the examples that they were scored on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.results.analysis.confidence import NUM_DRAWS, Floats
from prunedlora.results.analysis.example_errors import LOSS, data_of, documents_of, paired_errors
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.comparison.groups import ComparisonError, Group
from prunedlora.results.record import ExampleOutcomes


class Columns:
    """Candidates that take part, each with its column in the sample, given out as they are met."""

    def __init__(self) -> None:
        self.order: list[tuple[Group, Point]] = []
        self._known: dict[tuple[str, str], int] = {}

    def of(self, group: Group, point: Point) -> int:
        key = group.name, point.name
        if key not in self._known:
            self._known[key] = len(self.order)
            self.order.append((group, point))
        return self._known[key]


@dataclass(frozen=True)
class Sample:
    errors: Floats
    """(NUM_DRAWS, C), resampled minus measured quality, with its sign such that more is better."""
    steps: Floats
    """(C,), what one example adds to a mean score at most; 0 for a loss."""
    examples: list[str | None]
    """The examples that each was scored on; None where outcomes are not on record."""


def draw_sample(candidates: Sequence[tuple[Group, Point]], rng: np.random.Generator) -> Sample:
    """Resampled errors: the same draws for all that were scored on the same examples, independent of all others'.

    Raises ComparisonError for losses over different targets, and what reading outcomes raises.
    """
    objectives = candidates[0][0].objectives
    quality, sign = objectives.quality, 1.0 if objectives.maximize else -1.0
    errors = np.zeros((NUM_DRAWS, len(candidates)))
    found: list[ExampleOutcomes | None] = [None] * len(candidates)
    for store in {id(group.store): group.store for group, _ in candidates}.values():
        mine = [c for c, (group, _) in enumerate(candidates) if group.store is store]
        names = [(candidates[c][1].key, candidates[c][1].candidate.name) for c in mine]
        for c, outcomes in zip(mine, store.read_many_outcomes(names), strict=True):
            is_told = outcomes is not None and (quality == LOSS or quality in outcomes.scores)
            found[c] = outcomes if is_told else None
    examples = [
        None
        if outcomes is None or (data := data_of(point)) is None
        else f"{len(outcomes.loss_sums)} of {data} {documents_of(outcomes, quality)}"
        for (_, point), outcomes in zip(candidates, found, strict=True)
    ]
    for scored in sorted({one for one in examples if one is not None}):
        block = [c for c, one in enumerate(examples) if one == scored]
        errors[:, block] = _paired_errors([(candidates[c], found[c]) for c in block], quality, rng)
    alone = [c for c, one in enumerate(examples) if one is None]
    spread = np.array([stderr_of(*candidates[c]) for c in alone])
    errors[:, alone] = spread * rng.standard_normal((NUM_DRAWS, len(alone)))
    counts = np.array([point.quality.num_examples for _, point in candidates])
    return Sample(sign * errors, np.zeros(len(counts)) if quality == LOSS else 1.0 / counts, examples)


def _paired_errors(
    scored: Sequence[tuple[tuple[Group, Point], ExampleOutcomes | None]], quality: str, rng: np.random.Generator
) -> Floats:
    outcomes = [one for _, one in scored if one is not None]
    (group, first), targets = scored[0][0], outcomes[0].num_targets
    for (other, point), one in scored:
        if quality == LOSS and one is not None and one.num_targets != targets:
            raise ComparisonError(
                f"{first.name} of {group.name} and {point.name} of {other.name} count different numbers of targets in "
                "the same examples (another tokenizer, or another limit of length): their losses are not comparable"
            )
    return paired_errors(outcomes, quality, rng)


def stderr_of(group: Group, point: Point) -> float:
    """Raises ComparisonError for a figure of one example."""
    if point.quality.stderr is None:
        raise ComparisonError(
            f"{group.name}: {point.name} was scored on {point.quality.num_examples} validation example, "
            "which says nothing of its error; it takes at least 2"
        )
    return point.quality.stderr
