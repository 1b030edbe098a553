"""How sure a comparison of candidates is: the bootstrap over examples, the same draws for all, so that pairs count.

Candidates that were scored on the same examples err together: a hard example is hard for all of them. Differences are
therefore known better than each accuracy by itself, and only a paired resampling sees that
(https://doi.org/10.1214/aos/1176344552 for the bootstrap).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NUM_DRAWS = 2000
"""Resamplings: the 95 % quantile of 2,000 draws is known to half a percentage point."""


def draw_means(scores: Floats, weights: Floats | None, rng: np.random.Generator, num_draws: int = NUM_DRAWS) -> Floats:
    """Means of C candidates on resampled examples, (num_draws, C).

    `scores` (C, n): what each example adds; `weights` (C, n): what it counts (targets of a loss), None: one each.
    """
    n = scores.shape[1]
    counts = rng.multinomial(n, np.full(n, 1.0 / n), size=num_draws).astype(np.float64)
    totals = counts @ scores.T
    return totals / n if weights is None else totals / (counts @ weights.T)


def shortfall_bounds(means: Floats, draws: Floats, best: int, chosen: Sequence[int], confidence: float) -> Floats:
    """Upper bounds on how much worse than the candidate `best` each of `chosen` truly is, (len(chosen),).

    They hold for all of `chosen` at once with probability `confidence`, so that the one which looks best may be picked
    afterwards: comparisons with one control (Dunnett, https://doi.org/10.1080/01621459.1955.10501294), the critical
    value d from the draws, which know how candidates err together:

        q_best − q_c ≤ mean_best − mean_c + d · se_c        se_c: of the difference, over the draws

    `means` (C,), `draws` (num_draws, C), more is better. That `best` was picked for its luck makes the bounds too high
    rather than too low.
    """
    if not chosen:
        return np.zeros(0)
    errors = draws - means
    differences = errors[:, [best]] - errors[:, list(chosen)]
    spread = differences.std(0, ddof=1)
    certain = spread == 0.0
    standardized = np.where(certain, 0.0, -differences / np.where(certain, 1.0, spread))
    d = float(np.quantile(standardized.max(1), confidence, method="higher"))
    return means[best] - means[list(chosen)] + max(d, 0.0) * spread
