"""Intervals for the differences of many pairs of candidates that hold all at once, so that any may be picked.

The critical value comes from the same resampled means as in confidence.py, which know how candidates err together
(max-t, Romano and Wolf, https://doi.org/10.1198/016214504000000539). It is for all pairs that were in the running:
that covers several sizes, several groups, and the luck of the best of many.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from prunedlora.results.confidence import Floats

Places = NDArray[np.int64]


def spreads(errors: Floats, steps: Floats, one: int, others: Places) -> Floats:
    """Standard errors of the differences between candidate `one` and `others`, (len(others),).

    `errors` (num_draws, C): resampled minus measured qualities. `steps` (C,): what one example adds to a share of
    correct ones, 0 for figures that are no shares. One differing example more is reckoned with than was seen, since few
    of them tell little of how many there might be (Agresti and Min, https://doi.org/10.1002/sim.1781).
    """
    variance = (errors[:, others] - errors[:, [one]]).var(0, ddof=1)
    return np.asarray(np.sqrt(variance + (steps[one] ** 2 + steps[others] ** 2) / 2))


def critical_value(errors: Floats, steps: Floats, pairs: Sequence[tuple[int, Places]], confidence: float) -> float:
    """d such that, with probability `confidence`, every pair's true difference is within d · spread of the measured.

    `pairs`: candidate, and those that it is compared with. At least what one pair of normal errors takes, since pairs
    that never differ put no demand on d.
    """
    largest = np.zeros(len(errors))
    for one, others in pairs:
        spread = spreads(errors, steps, one, others)
        varies = spread > 0
        if varies.any():
            differences = np.abs(errors[:, others[varies]] - errors[:, [one]])
            largest = np.maximum(largest, (differences / spread[varies]).max(1))
    return max(float(np.quantile(largest, confidence, method="higher")), NormalDist().inv_cdf((1 + confidence) / 2))


def contenders(gains: Floats, stderrs: Floats, sizes: Floats, limits: Floats, screen: float) -> NDArray[np.bool_]:
    """Which candidates of a group could have come out as its best up to each of `limits`, (len(limits), C).

    Those no larger than the limit and, at most `screen` standard errors (of two independent figures), worse than the
    best of them. `gains`, `stderrs`, `sizes` (C,): more is better. A limit below all sizes has none.
    """
    fits = sizes <= limits[:, None]
    best = np.where(fits, gains, -np.inf).argmax(1)
    shortfall = gains[best][:, None] - gains
    return np.asarray(fits & (shortfall <= screen * np.hypot(stderrs[best][:, None], stderrs)))
