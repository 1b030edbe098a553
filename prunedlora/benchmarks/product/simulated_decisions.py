"""Scenarios in which the decision's statements are true or not: bounds, choices, and intervals of the chosen one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.benchmarks.product.simulated_sweep import (
    classified_sweep,
    lossy_sweep,
    right_or_wrong,
    scored_sweep,
)
from prunedlora.corpus_figures import macro_f1
from prunedlora.results.analysis.confidence import Floats, interval_of
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import Figure

Told = Mapping[str, bool]
"""What came of one simulated sweep at one level; `bounds_hold`: everything that was stated is so."""


def judged(summary: Summary, shortfalls: Floats, level: float, num_draws: int, seed: int) -> Told:
    """The decision's statements beside the truth; `shortfalls` (C,): how much worse than the truly best each truly is,
    by falling size.

    `bounds_hold`: all bounds. `advice_holds`: all that choices at any margin call proven. `says_smaller`: something
    smaller than the best measured is proven within the sweep's margin.
    """
    decision = decide(summary, confidence=level, num_draws=num_draws, seed=seed)
    assert decision is not None
    true = {point.name: float(short) for point, short in zip(summary.points, shortfalls, strict=True)}
    bounds = [(true[name], one.bound) for name, one in decision.standings.items() if one.bound is not None]
    assert bounds, decision.unproven
    proven = [(true[one.proven.point.name], one.margin) for one in decision.choices if one.proven is not None]
    named = decision.proven
    return {
        "bounds_hold": all(short <= bound + 1e-12 for short, bound in bounds),
        "advice_holds": all(short <= margin + 1e-12 for short, margin in proven),
        "says_smaller": named is not None and named.point.size < decision.best.point.size,
    }


@dataclass(frozen=True)
class Accuracies:
    """Adapters by falling size, with their true accuracies."""

    accuracies: tuple[float, ...]
    num_examples: int = 400
    within: float = 0.04

    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> dict[float, Told]:
        true = np.array(self.accuracies)
        summary = scored_sweep(right_or_wrong([[one] for one in true], self.num_examples, rng), self.within)
        seed = int(rng.integers(2**31))
        return {level: judged(summary, true.max() - true, level, num_draws, seed) for level in levels}


@dataclass(frozen=True)
class Fractions:
    """Scores between 0 and 1, as token F1 has: of each example a beta number about its own difficulty; some adapters
    lose a part on every example, one is as good as the best."""

    losses: tuple[float, ...]
    num_examples: int = 400
    within: float = 0.02

    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> dict[float, Told]:
        shape = (len(self.losses), self.num_examples)
        common = rng.beta(2.0, 1.0, self.num_examples)
        scores = np.where(rng.random(shape) < 0.7, common, rng.beta(2.0, 1.0, shape)) * (1 - np.array([self.losses]).T)
        summary = scored_sweep(scores, self.within)
        true, seed = 2 / 3 * np.array(self.losses), int(rng.integers(2**31))
        return {level: judged(summary, true, level, num_draws, seed) for level in levels}


@dataclass(frozen=True)
class Losses:
    """A best adapter and rivals that are worse by a little more than the margin, in a way that is hard to see."""

    kind: str
    """rare: an example in a hundred costs 10 nats more (of each rival its own; rare, shared: the same ones); heavy: by
    log-normal differences, most of which are small; light: the other tail; normal."""
    num_rivals: int
    num_examples: int = 400
    lengths: str = "one"
    """Targets of an example: one, equal (8), or unequal (log-normal)."""

    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> dict[float, Told]:
        n, shape = self.num_examples, (self.num_rivals, self.num_examples)
        targets = {"one": np.ones(n), "equal": np.full(n, 8.0), "unequal": np.ceil(rng.lognormal(1.5, 1.0, n))}
        counts = targets[self.lengths]
        sums = np.tile(rng.lognormal(-1.0, 1.0, n) * counts, (self.num_rivals + 1, 1))
        sums += 0.1 * np.sqrt(counts) * rng.standard_normal(sums.shape)
        true = 0.05
        skewed = rng.lognormal(0.0, 1.0, shape) - np.exp(0.5)
        if self.kind == "rare":
            true, costs = 0.1, 10.0 * (rng.random(shape) < 0.01)
        elif self.kind == "rare, shared":
            true, costs = 0.1, np.tile(10.0 * (rng.random(n) < 0.01), (self.num_rivals, 1))
        elif self.kind == "heavy":
            costs = true + 0.3 * skewed
        elif self.kind == "light":
            costs = true - 0.3 * skewed
        else:
            costs = true + 0.3 * rng.standard_normal(shape)
        sums[1:] += costs * counts
        summary = lossy_sweep(sums, counts, true - 1e-4)
        shortfalls, seed = np.array([0.0] + [true] * self.num_rivals), int(rng.integers(2**31))
        return {level: judged(summary, shortfalls, level, num_draws, seed) for level in levels}


@dataclass(frozen=True)
class RareClasses:
    """Two classes of which one is rare; adapters by falling size, with the share of each class that they get right."""

    right: tuple[tuple[float, float], ...]
    rare: float = 0.05
    num_examples: int = 400
    within: float = 0.05

    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> dict[float, Told]:
        n, shares = self.num_examples, np.array(self.right)
        true = (rng.random(n) < self.rare).astype(np.int64)
        luck = np.where(rng.random((len(shares), n)) < 0.6, rng.random(n), rng.random((len(shares), n)))
        predicted = np.where(luck < shares[:, true], true, 1 - true)
        summary = classified_sweep("macro_f1", true, predicted, self.within)
        f1 = self._true_f1(shares)
        shortfalls, seed = f1.max() - f1, int(rng.integers(2**31))
        return {level: judged(summary, shortfalls, level, num_draws, seed) for level in levels}

    def _true_f1(self, shares: Floats) -> Floats:
        """Of endless examples: the figure of the expected counts."""
        of_class = np.array([1 - self.rare, self.rare])
        hits = of_class * shares
        return macro_f1(hits, np.broadcast_to(of_class, hits.shape), hits + (of_class - hits)[:, ::-1])


@dataclass(frozen=True)
class BestOfMany:
    """The interval of the adapter that measured best among equals, on the split that it was chosen on, or on test."""

    num_candidates: int
    accuracy: float = 0.9
    on_test: bool = False
    num_examples: int = 400

    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> dict[float, Told]:
        del num_draws
        scores = right_or_wrong([[self.accuracy]] * self.num_candidates, self.num_examples, rng)
        summary = scored_sweep(scores, 0.01)
        chosen = max(summary.points, key=lambda point: point.quality.value)
        right = rng.binomial(self.num_examples, self.accuracy)
        share = right / self.num_examples
        stderr = float(np.sqrt(share * (1 - share) / (self.num_examples - 1)))
        test = Figure(value=share, stderr=stderr, num_examples=self.num_examples)
        found: dict[float, Told] = {}
        for level in levels:
            ends = (
                interval_of("accuracy", test, level)
                if self.on_test
                else interval_of("accuracy", chosen.quality, level, len(summary.points))
            )
            assert ends is not None
            found[level] = {"bounds_hold": ends[0] <= self.accuracy <= ends[1]}
        return found


def _just_too_bad(best: float, count: int, within: float) -> tuple[float, ...]:
    return (best, *[best - within - 1e-4] * count)


DECISIONS: Mapping[str, Accuracies | Fractions | Losses | RareClasses | BestOfMany] = {
    "clear winner": Accuracies((0.92, 0.84, 0.82, 0.8)),
    "ties": Accuracies((0.9,) * 6),
    "one just too bad": Accuracies(_just_too_bad(0.9, 1, 0.04)),
    "many just too bad": Accuracies(_just_too_bad(0.9, 24, 0.04)),
    "nearly perfect, few examples": Accuracies(_just_too_bad(0.998, 8, 0.02), num_examples=200, within=0.02),
    "choices along a curve": Accuracies((0.92, 0.92, 0.918, 0.91, 0.9, 0.8899, 0.8699, 0.85, 0.8, 0.7)),
    "token F1": Fractions((0.0, 0.0, 0.0301, 0.0301, 0.0301)),
    "macro F1, rare classes": RareClasses(((0.99, 0.9), (0.99, 0.9), (0.99, 0.72))),
    "loss, normal, 8 rivals": Losses("normal", 8),
    **{f"loss, log-normal, {num} rival{'s' * (num > 1)}": Losses("heavy", num) for num in (1, 2, 8, 24)},
    "loss, log-normal the other way, 8 rivals": Losses("light", 8),
    **{f"loss, one in a hundred, {num} rival{'s' * (num > 1)}": Losses("rare", num) for num in (1, 2, 8, 24)},
    "loss, the same one in a hundred, 8 rivals": Losses("rare, shared", 8),
    "loss, equal lengths, 8 rivals": Losses("heavy", 8, lengths="equal"),
    "loss, unequal lengths, 1 rival": Losses("heavy", 1, lengths="unequal"),
    "loss, unequal lengths, 8 rivals": Losses("heavy", 8, lengths="unequal"),
    "interval, best of 28": BestOfMany(28),
    "interval, best of 300": BestOfMany(300),
    "interval, best of 300 that are mostly wrong": BestOfMany(300, 0.1),
    "interval, test": BestOfMany(1, on_test=True),
    "interval, test of a nearly perfect one": BestOfMany(1, 0.9995, on_test=True),
}
