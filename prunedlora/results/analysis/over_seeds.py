"""Settings, not adapters: what several trainings of the same settings, each with its own seed, tell of any other."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt

import numpy as np

from prunedlora.results.analysis.confidence import Floats, largest_standardized


@dataclass(frozen=True)
class MeanContrast:
    """Mean of one setting's trainings minus that of another's, in units of the quality, more is better."""

    difference: float
    """Of the trainings that did not fail; NaN where one of both has none."""
    low: float
    high: float
    """Two-sided, for all contrasts of one call at once; infinite where one of both was trained once, or a training of
    one failed: nothing can be said then of what the settings give."""


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean over seeds, NaN of none, and its standard error, None for fewer than two."""
    stderr = statistics.stdev(values) / sqrt(len(values)) if len(values) > 1 else None
    return (statistics.fmean(values) if values else nan), stderr


def mean_contrasts(
    gains: Sequence[Floats],
    errors: Sequence[Floats],
    pairs: Sequence[tuple[int, int]],
    confidence: float,
    rng: np.random.Generator,
    *,
    resolution: float = 0.0,
    rare: float = 0.0,
    seeds: Sequence[Sequence[int | None]] | None = None,
) -> list[MeanContrast]:
    """Contrasts of settings `pairs` (first, second), by number.

    `gains[c]` (num_seeds of c,): measured quality of each training, more is better; NaN for one that failed.
    `errors[c]` (num_draws, num_seeds of c): resampled minus measured, drawn together for all settings
    (`example_errors`), so that pairs of examples show; zeros where there is no noise of examples. `resolution`: what
    one example more or less changes at most; figures are rounded to it, and one example more is taken to speak against
    each side. `rare`: of a loss, which has no such most, what one that was not seen may cost. Noise of the seeds is
    estimated for each setting by itself, never pooled: a steady one says nothing of a restless one. Its variance is
    drawn anew for every draw,

        σ² = s² ν / χ²_ν − ι, at least 0      s²: variance over the ν + 1 seeds
                                              ι: what of it the examples explain, on which two seeds err differently

    which is as wide as few seeds make it: without noise of examples the Behrens-Fisher interval
    (https://doi.org/10.1111/j.1469-1809.1935.tb02120.x). `seeds[c]` (num_seeds of c,): where both of a pair were
    trained with the same ones, it is their differences seed by seed that are so drawn: Student's interval. None: no
    seed is the same. Rungs and cuts of one training are settings of their own here; their noise is drawn as if it were
    independent, which makes the bounds on all of them too wide rather than too narrow.
    """
    is_told = [len(own) > 1 and bool(np.isfinite(own).all()) for own in gains]
    told = [pair for pair in pairs if is_told[pair[0]] and is_told[pair[1]]]

    def of_mean(of: Floats, by_examples: Floats) -> Floats:
        return _errors_of_mean(of, by_examples, resolution, resolution + rare, rng)

    alone = {c: of_mean(gains[c], errors[c]) for c in sorted({c for pair in told for c in pair})}
    drawn = [
        of_mean(gains[first] - gains[second], errors[first] - errors[second])
        if seeds is not None and _same(seeds[first], seeds[second])
        else alone[first] - alone[second]
        for first, second in told
    ]
    reach: dict[tuple[int, int], float] = {}
    if told:
        apart = np.abs(np.stack(drawn, axis=1))
        # Not standard errors: with two seeds the draws have none.
        scale = np.quantile(apart, confidence, axis=0)
        factor = float(np.quantile(largest_standardized(apart, scale), confidence, method="higher"))
        reach = {pair: factor * float(width) for pair, width in zip(told, scale, strict=True)}
    means = [float(own[np.isfinite(own)].mean()) if np.isfinite(own).any() else np.nan for own in gains]
    found = []
    for first, second in pairs:
        difference = means[first] - means[second]
        width = reach.get((first, second))
        low, high = (-inf, inf) if width is None else (difference - width, difference + width)
        found.append(MeanContrast(difference, low, high))
    return found


def _same(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Whether both are the same seeds in the same order, each known."""
    return list(one) == list(other) and None not in one


def _errors_of_mean(
    gains: Floats, errors: Floats, resolution: float, one_more: float, rng: np.random.Generator
) -> Floats:
    """(num_draws,) measured minus true mean of one setting: its seeds' noise, and the examples', with one more."""
    num_draws, degrees = len(errors), len(gains) - 1
    apart = errors - errors.mean(1, keepdims=True)
    explained = float(apart.var(0).sum()) / degrees
    variance = float(gains.var(ddof=1)) + resolution**2 / 12  # of a rounded figure: equal ones need not be equal
    of_seeds = np.maximum(variance * degrees / rng.chisquare(degrees, num_draws) - explained, 0.0)
    noise = np.sqrt(of_seeds / len(gains)) * rng.standard_normal(num_draws)
    unseen = rng.choice((-1.0, 1.0), num_draws) * rng.exponential(one_more, num_draws)
    return np.asarray(errors.mean(1) + noise + unseen)
