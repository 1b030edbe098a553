"""How many examples would prove an adapter, if all stayed as it measured."""

from collections.abc import Callable
from math import ceil

import numpy as np

from prunedlora.results.analysis.confidence import Floats, shortfall_bounds

MOST_TIMES = 400
"""Times the examples there are; what takes more is not affordable."""
CLOSE = 1.05
"""The answer is known up to this factor."""
MOST_AVERAGED = 32.0
"""Draws that one of more examples is the mean of; the mean of so many has no skew to speak of."""
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
    as many that measured alike, an error is the mean of k errors of these, and what one example more may add is one
    k-th: the bound is found anew of such draws. Where few examples differ, it falls faster than √k rises: the draws
    lose their skew, and the example more its weight.
    """
    known = np.isfinite(errors.sum(0))
    if not known[adapter] or not known[int(means.argmax())]:
        return None
    controls = _controls(means, errors, adapter)

    def is_proven(times: float) -> bool:
        rng = np.random.default_rng(seed)
        upper = shortfall_bounds(
            means,
            _of_more(errors, times, rng),
            confidence,
            rng,
            one_more=lambda j: one_more(j) / times,
            controls=controls,
        )
        return bool(upper[adapter] <= within)

    low, high = 1.0, float(MOST_TIMES)
    if not is_proven(high):
        return None
    while high / low > CLOSE:
        middle = np.sqrt(low * high)
        low, high = (low, middle) if is_proven(middle) else (middle, high)
    return ceil(num_examples * np.sqrt(low * high))


def _of_more(errors: Floats, times: float, rng: np.random.Generator) -> Floats:
    """Draws of `times` as many examples: weighted means of draws, the weights such that the variance is one `times`-th
    and no skew is left that so many would not have."""
    averaged = min(times, MOST_AVERAGED)
    num = ceil(averaged)
    last = (1 - np.sqrt(max(0.0, 1 - num * (averaged - num + 1) / averaged))) / num
    found = last * errors
    for _ in range(num - 1):
        found = found + (1 - last) / (num - 1) * errors[rng.permutation(len(errors))]
    return np.asarray(found * np.sqrt(averaged / times))


def _controls(means: Floats, errors: Floats, adapter: int) -> frozenset[int]:
    """Those beside which the bound is largest for some number of examples: of all, it would take as long as all bounds
    together at each step of the search. The larger that is, the more the measured difference counts."""
    deviations = (errors - errors[:, [adapter]]).std(0)
    shrunk = np.geomspace(1.0, MOST_TIMES**-0.5, 9)[:, None]
    limits = means + _TYPICAL * shrunk * np.where(np.isfinite(deviations), deviations, -np.inf)
    limits[:, adapter] = -np.inf
    nearest = np.argsort(-limits, axis=1)[:, :_NEAREST]
    return frozenset(nearest.ravel().tolist()) | {int(means.argmax())}
