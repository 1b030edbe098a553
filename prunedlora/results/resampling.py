"""Errors of candidates of several stores, resampled over the examples that they were scored on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.results.confidence import NUM_DRAWS, Floats, draw_means
from prunedlora.results.groups import ComparisonError, Group
from prunedlora.results.pareto import Point
from prunedlora.results.record import ExampleOutcomes


class Places:
    """Candidates that take part, each with its place among the samples, given out as they are met."""

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
    """(C,), what one example adds to a share; 0 for a loss."""
    examples: list[str | None]
    """The examples that each was scored on; None where outcomes are not on record."""


def draw_sample(candidates: Sequence[tuple[Group, Point]], rng: np.random.Generator) -> Sample:
    """Resampled errors: the same draws for all that were scored on the same examples, independent of all others'.

    Raises ComparisonError for losses over different targets, and what reading outcomes raises.
    """
    objectives = candidates[0][0].objectives
    quality, sign = objectives.quality, 1.0 if objectives.maximize else -1.0
    errors = np.zeros((NUM_DRAWS, len(candidates)))
    found = [group.store.read_outcomes(point.key, point.candidate.name) for group, point in candidates]
    examples = [
        None if outcomes is None or (data := data_of(point)) is None else f"{len(outcomes.loss_sums)} of {data}"
        for (_, point), outcomes in zip(candidates, found, strict=True)
    ]
    for scored in sorted({one for one in examples if one is not None}):
        block = [c for c, one in enumerate(examples) if one == scored]
        errors[:, block] = _paired_errors([(candidates[c], found[c]) for c in block], quality, rng)
    alone = [c for c, one in enumerate(examples) if one is None]
    spread = np.array([stderr_of(*candidates[c]) for c in alone])
    errors[:, alone] = spread * rng.standard_normal((NUM_DRAWS, len(alone)))
    counts = np.array([point.quality.num_examples for _, point in candidates])
    return Sample(sign * errors, np.zeros(len(counts)) if quality == "loss" else 1.0 / counts, examples)


def _paired_errors(
    scored: Sequence[tuple[tuple[Group, Point], ExampleOutcomes | None]], quality: str, rng: np.random.Generator
) -> Floats:
    outcomes = [one for _, one in scored if one is not None]
    if quality != "loss":
        scores = np.array([one.correct[quality] for one in outcomes], dtype=np.float64)
        return draw_means(scores, None, rng) - scores.mean(1)
    (group, first), targets = scored[0][0], outcomes[0].num_targets
    for (other, point), one in scored:
        if one is not None and one.num_targets != targets:
            raise ComparisonError(
                f"{first.name} of {group.name} and {point.name} of {other.name} count different numbers of targets in "
                "the same examples (another tokenizer, or another limit of length): their losses are not comparable"
            )
    sums, weights = (
        np.array([one.loss_sums for one in outcomes]),
        np.array([one.num_targets for one in outcomes], float),
    )
    return draw_means(sums, weights, rng) - sums.sum(1) / weights.sum(1)


def data_of(point: Point) -> str | None:
    """What the examples of all splits are, as the trial recorded it; None where it did not."""
    fingerprint = point.record.environment.data.get("fingerprint")
    return None if fingerprint is None else json.dumps(fingerprint)


def stderr_of(group: Group, point: Point) -> float:
    """Raises ComparisonError for a figure of one example."""
    if point.quality.stderr is None:
        raise ComparisonError(
            f"{group.name}: {point.name} was scored on {point.quality.num_examples} validation example, "
            "which says nothing of its error; it takes at least 2"
        )
    return point.quality.stderr
