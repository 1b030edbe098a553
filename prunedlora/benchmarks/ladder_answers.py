"""What a table of ladders is asked: areas over sizes, differences paired by seed, answers. No torch here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import log10
from typing import Literal

import moocore
import numpy as np
from scipy.stats import t

from prunedlora.benchmarks.over_seeds import over_seeds

CONFIDENCE = 0.95
"""Of a bound on one side."""
MOST_SHARE = Fraction(1, 4)
"""Of the reference's steps, that a ladder may take where it is asked what it loses."""
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


def at_most(loss: Paired | None, margin: float, num_lacking: int = 0) -> Answer:
    """Whether what is lost is at most the margin: told where a one-sided bound of it lies on that side.

    `loss`: None where no seed has both; `num_lacking`: seeds at which what is asked about has no figure and the other
    has one. They are in no mean, and those that are left may be the better ones: with any it is never "yes".
    """
    if loss is None:
        return "not told"
    if loss.upper is not None and loss.upper <= margin and not num_lacking:
        return "yes"
    return "no" if loss.lower is not None and loss.lower > margin else "not told"


def everywhere(answers: Iterable[Answer]) -> Answer:
    """Whether it holds at every size. "yes" only where each says so: an intersection-union test, which keeps the
    confidence of the single ones without a correction. "no" where one says so, which is of that one alone."""
    given = list(answers)
    if given and all(answer == "yes" for answer in given):
        return "yes"
    return "no" if "no" in given else "not told"


def place(difference: Paired, num_ours_lacking: int = 0, num_theirs_lacking: int = 0) -> Place:
    """Where a variant is whose quality minus that of another is `difference`. Seeds that it lacks and the other has
    keep it from being ahead, and likewise the other way round."""
    if difference.lower is not None and difference.lower > 0 and not num_ours_lacking:
        return "ahead"
    is_below = difference.upper is not None and difference.upper < 0
    return "behind" if is_below and not num_theirs_lacking else "not told"


def takes_little(num_steps: int, of: int) -> bool:
    """Whether these steps are MOST_SHARE of the others, or less."""
    return num_steps <= MOST_SHARE * of
