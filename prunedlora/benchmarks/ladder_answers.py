"""What a table of ladders is asked: areas over sizes, differences paired by seed, answers. No torch here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Literal

import moocore
import numpy as np
from scipy.stats import t

from prunedlora.benchmarks.over_seeds import over_seeds

CONFIDENCE = 0.95
"""Of a bound on one side."""
Answer = Literal["yes", "no", "not told"]
Place = Literal["ahead", "behind", "not told"]


def mean_gain(gains: Mapping[int, float], base: float, smallest: int, largest: int) -> float:
    """The mean over the logarithm of the size, from `smallest` to twice `largest` parameters, of how far the best that
    is at most that large is above `base`: the hypervolume over (log10 parameters, quality), by the width of its axis.

    `gains`: parameters → quality, more is better. What is not above `base` adds nothing.
    """
    end = log10(2 * largest)
    points = np.array([[gain, log10(params)] for params, gain in gains.items()], dtype=np.float64).reshape(-1, 2)
    area = moocore.hypervolume(points, ref=[base, end], maximise=[True, False]) if len(points) else 0.0
    return float(area) / (end - log10(smallest))


@dataclass(frozen=True)
class Paired:
    """Differences at equal seeds."""

    mean: float
    stderr: float | None
    """Of the mean; None of a single seed, which has no bounds either."""
    lower: float | None
    """The mean is above it, with CONFIDENCE: one side, Student's t."""
    upper: float | None
    """The mean is below it, likewise."""
    num: int


def paired(differences: Sequence[float]) -> Paired:
    """Mean, its standard error and one-sided bounds of one difference or more."""
    mean, stderr, num = over_seeds(differences)
    if stderr is None:
        return Paired(mean, None, None, None, num)
    reach = float(t.ppf(CONFIDENCE, num - 1)) * stderr
    return Paired(mean, stderr, mean - reach, mean + reach, num)


def at_most(loss: Paired, margin: float) -> Answer:
    """Whether what is lost is at most the margin: told where a one-sided bound of it lies on that side."""
    if loss.upper is not None and loss.upper <= margin:
        return "yes"
    return "no" if loss.lower is not None and loss.lower > margin else "not told"


def everywhere(answers: Iterable[Answer]) -> Answer:
    """Whether it holds at every size. "yes" only where each says so: an intersection-union test, which keeps the
    confidence of the single ones without a correction. "no" where one says so, which is of that one alone."""
    given = list(answers)
    if given and all(answer == "yes" for answer in given):
        return "yes"
    return "no" if "no" in given else "not told"


def place(difference: Paired) -> Place:
    """Where a variant is whose quality minus that of another is `difference`."""
    if difference.lower is not None and difference.lower > 0:
        return "ahead"
    return "behind" if difference.upper is not None and difference.upper < 0 else "not told"
