"""How many examples would prove an adapter, if all stayed as it measured."""

from collections.abc import Callable
from math import ceil

import numpy as np

from prunedlora.results.analysis.confidence import Floats, shortfall_bounds

MOST_TIMES = 400
"""Times the examples there are; what takes more is not affordable."""
CLOSE = 1.05
"""The answer is known up to this factor."""
MOST_DRAWS = 1000
"""Of the draws that there are: an estimate needs no more."""
_TYPICAL = 4.0
"""Standard errors that a bound is wide, about."""
_NEAREST = 3


def examples_needed(
    means: Floats,
    errors: Floats,
    one_more: Callable[[int], Floats],
    adapter: int,
    within: float,
    confidence: float,
    num_examples: int,
    seed: int,
) -> int | None:
    """About so many examples, in all, bring the bound of `adapter` down to `within`; None where MOST_TIMES as many do
    not, or its errors are not known.

    `means` (C,), `errors` (num_draws, C), `one_more`: as for `shortfall_bounds`, of `num_examples` examples. Of k times
    as many that measured alike, errors are smaller by √k, and what one example more may add by k: the bound is found
    anew of such draws. It is wider by far than √k tells where few examples differ.
    """
    known = np.isfinite(errors).all(0)
    if not known[adapter] or not known[int(means.argmax())]:
        return None
    draws, limits = errors[:MOST_DRAWS], _controls(means, errors[:MOST_DRAWS], adapter)

    def is_proven(times: float) -> bool:
        upper = shortfall_bounds(
            means,
            draws / np.sqrt(times),
            confidence,
            np.random.default_rng(seed),
            one_more=lambda j: one_more(j) / times,
            controls=limits,
        )
        return bool(upper[adapter] <= within)

    low, high = 1.0, float(MOST_TIMES)
    if not is_proven(high):
        return None
    while high / low > CLOSE:
        middle = np.sqrt(low * high)
        low, high = (low, middle) if is_proven(middle) else (middle, high)
    return ceil(num_examples * high)


def _controls(means: Floats, errors: Floats, adapter: int) -> frozenset[int]:
    """Those beside which the bound is largest for some number of examples: of all, it would take as long as all bounds
    together at each step of the search. The larger that is, the more the measured difference counts."""
    deviations = (errors - errors[:, [adapter]]).std(0)
    shrunk = np.geomspace(1.0, MOST_TIMES**-0.5, 9)[:, None]
    limits = means + _TYPICAL * shrunk * np.where(np.isfinite(deviations), deviations, -np.inf)
    limits[:, adapter] = -np.inf
    nearest = np.argsort(-limits, axis=1)[:, :_NEAREST]
    return frozenset(nearest.ravel().tolist()) | {int(means.argmax())}
