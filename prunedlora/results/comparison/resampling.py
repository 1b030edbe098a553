"""Errors of candidates of several stores, resampled over the examples that they were scored on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.corpus_figures import CORPUS_FIGURES
from prunedlora.results.analysis.confidence import NUM_DRAWS, Floats
from prunedlora.results.analysis.example_errors import (
    counted,
    data_of,
    documents_of,
    paired_errors,
    step_of_one,
    tells,
)
from prunedlora.results.analysis.harness_quality import examples_text
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
    """(C,), what one example more or less changes in the quality at most; 0 for a loss."""
    examples: list[str | None]
    """The examples that each was scored on; None where outcomes, or those that make the quality, are not on record."""


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
            found[c] = None if outcomes is None or not tells(outcomes, quality) else outcomes
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
    steps = [step_of_one(point, one, quality) for (_, point), one in zip(candidates, found, strict=True)]
    return Sample(sign * errors, np.array(steps), examples)


def _paired_errors(
    scored: Sequence[tuple[tuple[Group, Point], ExampleOutcomes | None]], quality: str, rng: np.random.Generator
) -> Floats:
    outcomes = [one for _, one in scored if one is not None]
    (group, first), targets = scored[0][0], counted(outcomes[0], quality)
    for (other, point), one in scored:
        if one is not None and counted(one, quality) != targets:
            what = (
                "have different classes for the same examples: their figures are"
                if quality in CORPUS_FIGURES
                else "count different numbers of targets in the same examples (another tokenizer, or another limit of "
                "length): their losses are"
            )
            raise ComparisonError(
                f"{first.name} of {group.name} and {point.name} of {other.name} {what} not comparable"
            )
    return paired_errors(outcomes, quality, rng)


def stderr_of(group: Group, point: Point) -> float:
    """Raises ComparisonError for a figure of one example."""
    if point.quality.stderr is None:
        raise ComparisonError(
            f"{group.name}: {point.name} was scored on {point.quality.num_examples} "
            f"{examples_text(group.objectives.quality, point.quality.num_examples)}, "
            "which says nothing of its error; it takes at least 2"
        )
    return point.quality.stderr
