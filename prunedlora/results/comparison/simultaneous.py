"""Bounds on how much better the best of one group is than the best of another, at many sizes at once.

The measured best of a group is the luckiest of many. Let a* and c* be the measured bests of two groups, c° the truly
best of the second, e the errors. Since c* measured no worse than c°,

    q_a* − q_c° ≥ (measured_a* − measured_c*) − (e_a* − e_c°)    and    e_a* − e_c° ≤ max over a of (e_a − e_c°)

so that the luck of the picked candidate is paid for once, on the side that gains by it. The quantiles of that maximum,
over all sizes and all that could have been picked, come from the resampled means of confidence.py, which know how
candidates err together (max-t: Romano and Wolf, https://doi.org/10.1198/016214504000000539), with the measured best
for c°, which nobody knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from prunedlora.results.analysis.confidence import Floats, largest_standardized

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Rare:
    """One example more, which may cost as much as the dearest of those that were seen: as in the exact limit of a rare
    count, it is taken to speak against each (`shortfall_bounds`)."""

    one_more: Callable[[int], Floats]
    """j → (C,): what it may add to how much worse than j each candidate is."""
    draws: Floats
    """(num_draws, C), exponential of mean 1."""

    def __call__(self, best: int) -> Floats:
        return np.maximum(self.one_more(best), 0.0)


def spreads(errors: Floats, steps: Floats, one: int, others: Indices) -> Floats:
    """Standard errors of the differences between candidate `one` and `others`, (len(others),).

    `errors` (num_draws, C): resampled minus measured qualities. `steps` (C,): what one example more or
    less changes in the quality at most, 0 for a loss. One differing example more is reckoned with than was
    seen, since few of them tell little of how many there might be (Agresti and Min, https://doi.org/10.1002/sim.1781).
    """
    variance = (errors[:, others] - errors[:, [one]]).var(0, ddof=1)
    return np.asarray(np.sqrt(variance + (steps[one] ** 2 + steps[others] ** 2) / 2))


def critical_value(
    errors: Floats,
    steps: Floats,
    pairs: Sequence[tuple[int, Indices]],
    confidence: float,
    rare: Rare | None = None,
) -> float:
    """d such that, with probability `confidence`, no candidate is measured better than it is, against the one that it
    is compared with, by more than d · spread.

    `pairs`: a measured best, and those of another group that could have been compared with it. At least what one pair
    of normal errors takes, since pairs that never differ put no demand on d. `rare`: of a loss, what examples that were
    not seen may add to the luck.
    """
    largest = np.zeros(len(errors))
    for best, others in pairs:
        luck = errors[:, others] - errors[:, [best]]
        if rare is not None:
            luck += rare(best)[others] * rare.draws[:, others]
        largest = np.maximum(largest, largest_standardized(luck, spreads(errors, steps, best, others)))
    return max(float(np.quantile(largest, confidence, method="higher")), NormalDist().inv_cdf(confidence))


def contenders(gains: Floats, stderrs: Floats, sizes: Floats, limits: Floats, screen: float) -> NDArray[np.bool_]:
    """Which candidates of a group could have come out as its best up to each of `limits`, (len(limits), C).

    Those no larger than the limit and, at most `screen` standard errors (of two independent figures), worse than the
    best of them. `gains`, `stderrs`, `sizes` (C,): more is better. A limit below all sizes has none.
    """
    fits = sizes <= limits[:, None]
    best = np.where(fits, gains, -np.inf).argmax(1)
    shortfall = gains[best][:, None] - gains
    return np.asarray(fits & (shortfall <= screen * np.hypot(stderrs[best][:, None], stderrs)))
