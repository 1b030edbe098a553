"""Errors of candidates of several stores, resampled over the examples that they were scored on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.corpus_figures import CORPUS_FIGURES
from prunedlora.results.analysis.confidence import NUM_DRAWS, Floats, Ints
from prunedlora.results.analysis.example_errors import (
    LOSS,
    counted,
    data_of,
    documents_of,
    errors_of,
    one_more_example,
    step_of_one,
    tells,
)
from prunedlora.results.analysis.harness_quality import examples_text
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.comparison.groups import ComparisonError, Group
from prunedlora.results.comparison.simultaneous import Rare
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
    rare: Rare | None
    """Of a loss, which has no steps."""

    def are_paired(self, columns: Sequence[int]) -> bool:
        """Whether all of these were scored on the same examples, and every outcome is on record."""
        examples = {self.examples[c] for c in columns}
        return len(examples) == 1 and None not in examples


def draw_sample(
    points: Sequence[Point],
    outcomes: Sequence[ExampleOutcomes | None],
    owner: Ints,
    objectives: Objectives,
    rng: np.random.Generator,
) -> Sample:
    """Resampled errors: the same draws for all that were scored on the same examples, independent of all others'.
    `owner` (C,): the settings that each is a training of.

    Raises ComparisonError for figures of the same examples that count different things: losses over other targets.
    """
    quality = objectives.quality
    examples: list[str | None] = []
    first: dict[str, tuple[Point, tuple[int, ...]]] = {}
    for point, one in zip(points, outcomes, strict=True):
        data = data_of(point)
        if one is None or data is None or not tells(one, quality):
            examples.append(None)
            continue
        same = f"{len(one.loss_sums)} of {data} {documents_of(one, quality)}"
        other, targets = first.setdefault(same, (point, counted(one, quality)))
        if targets != counted(one, quality):
            what = (
                "have different classes for the same examples: their figures are"
                if quality in CORPUS_FIGURES
                else "count different numbers of targets in the same examples (another tokenizer, or another limit of "
                "length): their losses are"
            )
            raise ComparisonError(f"{other.name} and {point.name} {what} not comparable")
        examples.append(same)
    errors = errors_of(points, outcomes, owner, objectives, rng, NUM_DRAWS).draws
    steps = [step_of_one(point, one, quality) for point, one in zip(points, outcomes, strict=True)]
    rare = None
    if quality == LOSS:
        rare = Rare(one_more_example(points, outcomes, objectives), rng.exponential(size=errors.shape))
    return Sample(errors, np.array(steps), examples, rare)


def outcomes_of(candidates: Sequence[tuple[Group, Point]]) -> list[ExampleOutcomes | None]:
    """Outcomes by example of each, from its group's store. Raises what reading them raises."""
    found: list[ExampleOutcomes | None] = [None] * len(candidates)
    for store in {id(group.store): group.store for group, _ in candidates}.values():
        mine = [c for c, (group, _) in enumerate(candidates) if group.store is store]
        names = [(candidates[c][1].key, candidates[c][1].candidate.name) for c in mine]
        for c, one in zip(mine, store.read_many_outcomes(names), strict=True):
            found[c] = one
    return found


def stderr_of(group: Group, point: Point) -> float:
    """Raises ComparisonError for a figure of one example."""
    if point.quality.stderr is None:
        raise ComparisonError(
            f"{group.name}: {point.name} was scored on {point.quality.num_examples} "
            f"{examples_text(group.objectives.quality, point.quality.num_examples)}, "
            "which says nothing of its error; it takes at least 2"
        )
    return point.quality.stderr
