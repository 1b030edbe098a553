"""Directions: which values of a searched field went with a better quality, or a smaller size, in the trials of the
search.

What is told is what was seen together in the trials that the search chose, and no effect of the field alone: other
fields moved too, and a searcher tries what looked good more often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.ask import Ask
from prunedlora.results.recorded_settings import shown

FEWEST_TRIALS = 10
"""With fewer, no direction is told."""
NUM_PARTS = 3
"""Of a number's values, each of as many trials; what the parts' means say is told beside the direction."""
ERROR = 0.05
"""A direction is told that chance alone would give so often."""


@dataclass(frozen=True)
class Part:
    """Trials with neighbouring values."""

    values: str
    mean: float
    """Of what is looked at: the quality, or the size."""
    num_trials: int


@dataclass(frozen=True)
class Direction:
    path: str
    kind: Literal["higher", "lower", "peak", "choice", "unclear", "few"]
    """Which values went with better ones: the higher, the lower, those of one part, one choice; none that chance would
    not give too; or too few trials to tell."""
    correlation: float | None
    """Spearman's, of a number with what is looked at, more being better; None for choices."""
    parts: tuple[Part, ...]
    best: int | None
    """Number of the best part; None where none is told."""

    def text(self) -> str:
        """In a few words."""
        if self.kind == "few":
            return f"too few trials to tell: it takes {FEWEST_TRIALS}"
        if self.best is None:
            return "no direction that chance would not give too"
        at = self.parts[self.best].values
        if self.kind in ("higher", "lower"):
            return f"{self.kind} is better, best at {at}"
        return f"best at {at}" if self.kind == "peak" else f"{at} is best"


def searched(summary: Summary) -> list[tuple[Ask, Point]]:
    """Every trial of the search with its last candidate that is as it was trained, by key."""
    quality = [summary.objectives.quality]
    last = {point.key: point for point in summary.points if point.candidate is point.record.last_measured(quality)}
    asks = {ask.key: ask for ask in summary.asks if ask.kind == "search" and ask.key in last}
    return [(ask, last[key]) for key, ask in sorted(asks.items())]


def directions(summary: Summary) -> dict[str, dict[str, Direction]]:
    """Objective (quality, then size) → field → its direction. Empty without a search."""
    trials = searched(summary)
    paths = sorted({path for ask, _ in trials for path in ask.params})
    gain = summary.objectives.gain
    looked_at = {
        summary.objectives.quality: (lambda p: p.quality.value, lambda p: gain(p.quality.value)),
        summary.objectives.size: (lambda p: p.size, lambda p: -p.size),
    }
    return {
        name: {
            path: _direction(path, [(ask.params[path], value(p), better(p)) for ask, p in trials if path in ask.params])
            for path in paths
        }
        for name, (value, better) in looked_at.items()
        if trials
    }


def _direction(path: str, trials: Sequence[tuple[Any, float, float]]) -> Direction:
    """Of (value of the field, what is looked at, the same with more being better), one per trial."""
    values, better = [value for value, _, _ in trials], np.array([one for _, _, one in trials])
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    groups = _parts(values) if numbers else _choices(values)
    parts = tuple(
        Part(text, float(np.mean([trials[i][1] for i in members])), len(members)) for text, members in groups.items()
    )
    if len(trials) < FEWEST_TRIALS or len(groups) < 2 or np.ptp(better) == 0:
        return Direction(path, "few" if len(trials) < FEWEST_TRIALS else "unclear", None, parts, None)
    samples = [better[members] for members in groups.values()]
    best = max(range(len(samples)), key=lambda i: float(np.mean(samples[i])))
    correlation = None
    if numbers:
        found = stats.spearmanr(np.array(values, dtype=np.float64), better)
        correlation = float(found.statistic)
        at_end = len(parts) - 1 if correlation > 0 else 0
        if found.pvalue < ERROR and best == at_end:
            return Direction(path, "higher" if correlation > 0 else "lower", correlation, parts, best)
    # Of every part enough for the test, which asks whether all are of one distribution.
    told = min(map(len, samples)) > 1 and stats.kruskal(*samples).pvalue < ERROR
    kind: Literal["peak", "choice", "unclear"] = "unclear" if not told else "peak" if numbers else "choice"
    return Direction(path, kind, correlation, parts, best if told else None)


def _parts(values: Sequence[float]) -> Mapping[str, list[int]]:
    """Trials of neighbouring values, in parts about as large; equal values are never parted."""
    if len(distinct := sorted(set(values))) <= NUM_PARTS:
        return {shown(value): [i for i, one in enumerate(values) if one == value] for value in distinct}
    cuts = np.quantile(values, [part / NUM_PARTS for part in range(1, NUM_PARTS)])
    found: dict[int, list[int]] = {}
    for i, value in enumerate(values):
        found.setdefault(int(np.searchsorted(cuts, value)), []).append(i)
    ends = {part: [values[i] for i in members] for part, members in sorted(found.items())}
    return {f"{shown(min(ends[part]))} to {shown(max(ends[part]))}": found[part] for part in ends}


def _choices(values: Sequence[Any]) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, value in enumerate(values):
        found.setdefault(shown(value), []).append(i)
    return dict(sorted(found.items()))
