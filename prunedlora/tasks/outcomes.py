"""Outcomes of an evaluation, example by example, and the figures with standard errors that follow from them.

Kept per example because everything else derives from it: means, standard errors, paired comparisons of two adapters,
and results that depend neither on the batch size nor on how many workers shared the examples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunedlora.corpus_figures import CORPUS_FIGURES, corpus_stderr, corpus_value


@dataclass(frozen=True)
class Outcomes:
    """One entry per example, in the order of the features that were evaluated."""

    loss_sums: list[float]
    """Cross-entropy in nats, summed over the targets of the example."""
    num_targets: list[int]
    """Targets of the example: 1 for a class, the tokens of the answer for generation."""
    scores: Mapping[str, Sequence[float]]
    """Metric → score of each example, from 0 to 1: 1 for a right one, 0 for a wrong one. Empty when nothing but the
    loss was asked for."""
    true_classes: Sequence[int] | None = None
    """Class of each example, where a figure is made of all classes together (corpus_figures.py); else None."""
    predicted_classes: Sequence[int] | None = None
    """The class that each was given; there with `true_classes`."""


@dataclass(frozen=True)
class Figure:
    """A mean, or a figure of all examples together, with its standard error."""

    value: float
    stderr: float | None
    """None for a single example, which says nothing about the spread."""
    num_examples: int


def figures(outcomes: Outcomes) -> dict[str, Figure]:
    """Metric → figure: the loss per target, and the mean score of the examples for each other metric;
    where the classes are known, all figures that are made of them together (corpus_figures.py), with the jackknife's
    standard errors.

    Standard errors over the n examples. Mean m of scores s: sqrt(Σ (s_i − m)² / (n (n − 1))), for a share p of right
    ones sqrt(p (1 − p) / (n − 1)). Of the loss: `per_target`.

    Raises ValueError when there are no examples.
    """
    n = len(outcomes.loss_sums)
    if n == 0:
        raise ValueError("no outcomes: nothing was evaluated")
    result = {"loss": Figure(*per_target(outcomes.loss_sums, outcomes.num_targets), n)}
    for metric, scores in outcomes.scores.items():
        mean = math.fsum(scores) / n
        squares = math.fsum((score - mean) ** 2 for score in scores)
        result[metric] = Figure(mean, math.sqrt(squares / n / (n - 1)) if n > 1 else None, n)
    if outcomes.true_classes is not None and outcomes.predicted_classes is not None:
        true, predicted = np.array(outcomes.true_classes), np.array(outcomes.predicted_classes)
        for name in CORPUS_FIGURES:
            result[name] = Figure(corpus_value(name, true, predicted), corpus_stderr(name, true, predicted), n)
    return result


def per_target(sums: Sequence[float], num_targets: Sequence[int]) -> tuple[float, float | None]:
    """L = Σ s_i / Σ t_i, of the sums s_i of n examples over their t_i targets, and its standard error, that of a ratio
    estimator (Cochran, Sampling Techniques, 6.4): sqrt(n / (n − 1) Σ (s_i − L t_i)²) / Σ t_i; None for one example.
    """
    n, total = len(sums), sum(num_targets)
    mean = math.fsum(sums) / total
    residuals = (s - mean * t for s, t in zip(sums, num_targets, strict=True))
    return mean, math.sqrt(math.fsum(r * r for r in residuals) * n / (n - 1)) / total if n > 1 else None


def interleave(shards: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of all examples, where worker k of n evaluated `features[k::n]`.

    Raises ValueError when the lengths cannot come from such a sharing.
    """
    lengths = [len(shard.loss_sums) for shard in shards]
    total = sum(lengths)
    if lengths != [len(range(k, total, len(shards))) for k in range(len(shards))]:
        raise ValueError(f"shards of {lengths} examples are no sharing of {total} examples by turns")
    order = [(index % len(shards), index // len(shards)) for index in range(total)]
    return merged(shards, lambda lists: [lists[k][i] for k, i in order])


def merged(parts: Sequence[Outcomes], join: Callable[[list[Sequence[Any]]], list[Any]]) -> Outcomes:
    """The outcomes of all parts, which are of one evaluation: `join` makes one list of those of the parts."""
    first = parts[0]
    has_classes = first.true_classes is not None
    return Outcomes(
        loss_sums=join([part.loss_sums for part in parts]),
        num_targets=join([part.num_targets for part in parts]),
        scores={metric: join([part.scores[metric] for part in parts]) for metric in first.scores},
        true_classes=join([part.true_classes or () for part in parts]) if has_classes else None,
        predicted_classes=join([part.predicted_classes or () for part in parts]) if has_classes else None,
    )
