"""Looks: what fresh trainings tell of adapters beside another, at planned looks that share the error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from prunedlora.results.analysis.confidence import Floats
from prunedlora.results.analysis.over_seeds import MeanContrast, mean_contrasts

Verdict = Literal["open", "confirmed", "refuted", "failed", "not told", "measured"]
"""open: trainings are missing. failed: a fresh training of it failed, so that its settings cannot be relied on. not
told: all looks are over, or nothing it could be compared with is left. measured: no probability can be given."""

MOST_SEEDS = 100
"""What takes more is not affordable."""


@dataclass(frozen=True)
class Statement:
    verdict: Verdict
    num_seeds: int
    """Fresh trainings of each that it was told from; while it is open, that it needs."""
    difference: float
    """Fresh mean minus that of what it is compared with, more is better; NaN where one of both has none."""
    low: float
    high: float
    """The difference is at least `low`, and it is at most `high`: each at the plan's confidence, looks and other
    adapters included. Infinite where nothing can be told."""


def state(
    gains: Sequence[Floats],
    errors: Sequence[Floats],
    pairs: Sequence[tuple[int, int]],
    looks: Sequence[int],
    within: float,
    confidence: float,
    rng: np.random.Generator,
    *,
    resolution: float = 0.0,
    rare: Sequence[float] = (),
) -> list[Statement]:
    """What can be told of `pairs` (adapter, what it is compared with), by number, at the first look that tells it.

    `gains[c]` (num_seeds of c,): quality of each fresh training so far in the order of the seeds, more is better, NaN
    of one that failed; `errors[c]` (num_draws, num_seeds of c): resampled minus measured (`example_errors`). A pair is
    confirmed when its difference is at least −within, refuted when it is below that, each at `confidence`: whatever the
    truth, one of the two statements alone could be false. `rare`: as `mean_contrasts` takes it, for each look, of the
    trainings up to it, so that later ones take back nothing; none where it is no loss.
    """
    level = 1 - 2 * (1 - confidence) / len(looks)  # two-sided, of which one side counts
    found: dict[int, Statement] = {}
    left = set(range(len(pairs)))
    for number, look in enumerate(looks):
        seen = [own[:look] for own in gains]
        whole = [own.size > 0 and bool(np.isfinite(own).all()) for own in seen]
        # What was told before stays in the family: which are left follows from what was measured.
        family = [index for index, pair in enumerate(pairs) if all(whole[c] for c in pair)]
        contrasts = mean_contrasts(
            seen,
            [own[:, :look] for own in errors],
            [pairs[i] for i in family],
            level,
            rng,
            resolution=resolution,
            rare=rare[number] if rare else 0.0,
        )
        told = dict(zip(family, contrasts, strict=True))
        for index in sorted(left):
            own, other = (seen[c] for c in pairs[index])
            one = told.get(index, MeanContrast(np.nan, -np.inf, np.inf))
            verdict: Verdict = "not told"
            if np.isnan(own).any():
                verdict = "failed"
            elif min(len(own), len(other)) < look and not np.isnan(other).any():
                verdict = "open"
            elif one.low >= -within:
                verdict = "confirmed"
            elif one.high < -within:
                verdict = "refuted"
            if verdict != "not told" or np.isnan(other).any():
                left.remove(index)
            found[index] = Statement(verdict, look, one.difference, one.low, one.high)
    return [found[index] for index in range(len(pairs))]


def measured_only(gains: Sequence[Floats], pairs: Sequence[tuple[int, int]], looks: Sequence[int]) -> list[Statement]:
    """The same where no probability can be given: what the first look measured, since no further one would tell more.
    Arguments as for `state`."""
    look = looks[0]
    found = []
    for own, other in ([gains[c][:look] for c in pair] for pair in pairs):
        verdict: Verdict = "measured"
        if np.isnan(own).any():
            verdict = "failed"
        elif np.isnan(other).any():
            verdict = "not told"
        elif min(len(own), len(other)) < look:
            verdict = "open"
        difference = float(own.mean() - other.mean()) if verdict == "measured" else np.nan
        found.append(Statement(verdict, look, difference, -np.inf, np.inf))
    return found


def seeds_needed(statement: Statement, within: float, confidence: float) -> int | None:
    """About so many fresh trainings of each, at one look, would tell what was not told, if mean and spread stay as they
    measured: the smallest n with

        r · (t₁(n) / √n) / (t₁(m) / √m) ≤ |d + within|        r: half the interval that m trainings of each gave
                                                              t₁(n): Student's quantile at `confidence`, n − 1 degrees

    since the spread of seeds enters the interval so. Noise of the examples, which more seeds do not lessen in full, is
    taken to fall with it: rather too few than too many. None where MOST_SEEDS do not tell: it measured too near the
    margin; and where there is no interval.
    """
    half, distance = (statement.high - statement.low) / 2, abs(statement.difference + within)

    def factor(num: int) -> float:
        return float(t.ppf(confidence, num - 1)) / num**0.5

    if not np.isfinite(half):
        return None
    unit = half / factor(statement.num_seeds)
    more = range(statement.num_seeds + 1, MOST_SEEDS + 1)
    return next((num for num in more if unit * factor(num) <= distance), None)
