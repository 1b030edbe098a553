"""How sure a comparison of configurations is: noise of the examples, and of the seeds where there are several.

Candidates that were scored on the same examples err together: a hard example is hard for all of them. Differences are
therefore known better than each accuracy by itself, and only a paired resampling sees that
(https://doi.org/10.1214/aos/1176344552 for the bootstrap). Seeds are few, so they are not resampled: a bootstrap of two
or three values is far too narrow. Their variance is estimated, and stretched by how badly it is known.

"Measured" is always a quality with its sign such that more is better.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from prunedlora.corpus_figures import CORPUS_FIGURES, LOWEST, resampled
from prunedlora.results.record import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_DRAWN = 20_000_000
"""Examples that are drawn at once: it takes about half a gigabyte."""
NUM_DRAWS = 2000
"""Resamplings: the 95 % quantile of 2,000 draws is known to half a percentage point."""


def interval_of(name: str, figure: Figure, confidence: float) -> tuple[float, float] | None:
    """Two-sided interval of a figure over other draws of as many examples; None where it has no standard error.

    Mean scores have Wilson's (https://doi.org/10.1080/01621459.1927.10502953), which stays
    within 0 and 1 and is no point where all examples were right; losses the normal one. Wilson's is for shares of right
    examples; scores between 0 and 1 vary less, and count as the number of right or wrong ones that would have this
    standard error: p (1 − p) / stderr² + 1, which is n for a share. Figures of all classes together
    (corpus_figures.py) are no means: theirs is the normal one, cut at what they can be, and none where the jackknife
    finds no error, since how rare the classes are is not known here. Neither are figures beyond 0 and 1.
    """
    if figure.stderr is None or (name in CORPUS_FIGURES and figure.stderr == 0):
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low, high = figure.value - z * figure.stderr, figure.value + z * figure.stderr
    if name in CORPUS_FIGURES:
        return max(low, LOWEST[name]), min(high, 1.0)
    if name == "loss" or not 0 <= figure.value <= 1:
        return low, high
    n, p = float(figure.num_examples), figure.value
    if figure.stderr > 0:
        n = max(n, p * (1 - p) / figure.stderr**2 + 1)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def draw_means(scores: Floats, weights: Floats | None, rng: np.random.Generator, num_draws: int = NUM_DRAWS) -> Floats:
    """Means of C candidates on resampled examples, (num_draws, C).

    `scores` (C, n): what each example adds; `weights` (C, n): what it counts (targets of a loss), None: one each.
    """
    means = []
    for counts in draw_examples(scores.shape[1], rng, num_draws):
        totals = counts @ scores.T
        means.append(totals / scores.shape[1] if weights is None else totals / (counts @ weights.T))
    return np.concatenate(means)


def draw_corpus_figures(
    name: str, true: Ints, predicted: Ints, rng: np.random.Generator, num_draws: int = NUM_DRAWS
) -> Floats:
    """A figure of corpus_figures.py of C candidates, computed anew on resampled examples, (num_draws, C). `true` (n,):
    classes of the examples; `predicted` (C, n): those that the candidates gave."""
    return np.concatenate(
        [resampled(name, true, predicted, counts) for counts in draw_examples(len(true), rng, num_draws)]
    )


def draw_examples(n: int, rng: np.random.Generator, num_draws: int) -> Iterator[Floats]:
    """How often each of n examples is drawn, (some draws, n), until there were `num_draws`."""
    at_once = max(1, MOST_DRAWN // n)
    for begin in range(0, num_draws, at_once):
        num = min(at_once, num_draws - begin)
        drawn = rng.integers(n, size=(num, n)) + n * np.arange(num)[:, None]
        yield np.bincount(drawn.ravel(), minlength=num * n).reshape(num, n).astype(np.float64)


def means_over_seeds(values: Floats, owner: Ints) -> Floats:
    """(…, P) values of trainings → (…, C) means of their configurations; `owner` (P,): each one's, 0 … C − 1."""
    return np.stack([values[..., owner == each].mean(-1) for each in range(owner.max() + 1)], axis=-1)


@dataclass(frozen=True)
class SeedNoise:
    """What seeds do to the measured means of C configurations, beyond what the examples explain."""

    draws: Floats
    """(num_draws, C) errors of the means."""
    draws_if_known: Floats
    """The same if the estimated variance were the true one, as with many seeds."""
    variance: Floats
    """(C,) of the means, at the estimate itself."""
    deviation: float
    """Standard deviation of the true quality over seeds, estimated; 0 where the examples explain all differences."""
    degrees: int
    """Degrees of freedom of the estimate: trainings beyond the first of the same settings, each once however many
    candidates it left."""


def seed_noise(
    measured: Floats, errors: Floats, owner: Ints, rng: np.random.Generator, trainings: Ints | None = None
) -> SeedNoise | None:
    """Noise of the seeds, from the configurations that were trained with several; None where none was.

    `measured` (P,) of every candidate, `errors` (num_draws, P) as its examples draw it (NaN: not known), `owner` (P,):
    its configuration, `trainings` (P,): the training that left it (None: one each). One variance for all
    configurations, as in Dunnett's test; those trained once have it too:

        σ² ν / χ²_ν − ι, at least 0      σ²: variance over seeds, pooled, ν degrees of freedom
                                         ι: what of it the examples explain, on which two seeds err differently

    drawn anew for every draw: the fiducial distribution of a variance component, which is as wide as few seeds make it.
    Rungs and cuts of one training share its luck, so that ν counts trainings and not candidates; the errors of two of
    them are drawn as if they were independent, which makes their difference look less certain than it is.
    """
    num_seeds = np.bincount(owner)
    num_contrasts = int((num_seeds - 1).sum())
    if num_contrasts == 0:
        return None
    degrees = num_contrasts if trainings is None else _repeated(owner, trainings)
    apart = measured - means_over_seeds(measured, owner)[owner]
    apart_by_examples = errors - means_over_seeds(errors, owner)[:, owner]
    pooled = float((apart**2).sum()) / num_contrasts
    explained = float(np.nan_to_num(apart_by_examples.var(0)).sum()) / num_contrasts
    num_draws = len(errors)
    drawn = np.maximum(pooled * degrees / rng.chisquare(degrees, num_draws) - explained, 0.0)
    estimate = max(pooled - explained, 0.0)
    normal = rng.standard_normal((num_draws, len(num_seeds)))
    return SeedNoise(
        draws=np.sqrt(drawn[:, None] / num_seeds) * normal,
        draws_if_known=np.sqrt(estimate / num_seeds) * normal,
        variance=estimate / num_seeds,
        deviation=float(np.sqrt(estimate)),
        degrees=degrees,
    )


def _repeated(owner: Ints, trainings: Ints) -> int:
    """Trainings beyond the first among those that configurations link: what repeats another one's settings."""
    linked: list[set[int]] = []
    for each in range(owner.max() + 1):
        together = {int(training) for training in trainings[owner == each]}
        apart = [group for group in linked if not group & together]
        linked = [*apart, together.union(*(group for group in linked if group & together))]
    return sum(len(group) - 1 for group in linked)


@dataclass(frozen=True)
class Bounds:
    """How much worse than the best K configurations may be, and where the doubt comes from."""

    upper: Floats
    """(K,)"""
    width: Floats
    """(K,) from the measured difference to the bound."""
    width_if_known: Floats
    """(K,) the same if the noise of the seeds were known, as with many seeds."""
    example_variance: Floats
    """(K,) of the difference; falls with the number of examples."""
    seed_variance: Floats
    """(K,) of the difference; falls with the number of seeds."""


def shortfall_bounds(
    means: Floats,
    errors: Floats,
    best: int,
    chosen: Sequence[int],
    confidence: float,
    rng: np.random.Generator,
    *,
    seeds: SeedNoise | None = None,
    resolution: float = 0.0,
) -> Bounds:
    """Upper bounds on how much worse than the configuration `best` each of `chosen` truly is.

    They hold for all of `chosen` at once with probability `confidence`, so that the one which looks best may be picked
    afterwards: comparisons with one control (Dunnett, https://doi.org/10.1080/01621459.1955.10501294), the critical
    value d from the draws, which know how candidates err together:

        q_best − q_c ≤ mean_best − mean_c + d · s_c

    s_c is not the standard error but the error that the difference itself exceeds in the share 1 − confidence of the
    draws (at most 10 %), so that differences of skewed errors get their room.
    `means` (C,) measured, `errors` (num_draws, C) as the examples draw them; NaN where they are not known, and the
    bound is infinite. `resolution`: what one example more or less changes at most, for scores from 0 to 1. Two
    that did not differ on n examples may still differ on 3 of n (95 %), of which no resampling knows: as in the exact
    limit of a rare count (https://doi.org/10.1093/biomet/28.3-4.437), one more example is taken to speak against each.
    That `best` was picked for its luck makes the bounds too high rather than too low.
    """
    chosen = list(chosen)
    shortfall = means[best] - means[chosen]
    known = np.isfinite(errors[:, chosen]).all(0) & np.isfinite(errors[:, best]).all()
    by_examples = np.where(known, errors[:, [best]] - errors[:, chosen], 0.0)
    rare = rng.exponential(resolution, by_examples.shape) if resolution > 0 else np.zeros_like(by_examples)
    example_variance = by_examples.var(0) + resolution**2
    seed_variance = np.zeros(len(chosen)) if seeds is None else seeds.variance[best] + seeds.variance[chosen]

    def width(seed_draws: Floats | None) -> Floats:
        drawn = by_examples + rare
        if seed_draws is not None:
            drawn = drawn + seed_draws[:, [best]] - seed_draws[:, chosen]
        scale = np.quantile(drawn, max(confidence, 0.9), axis=0)
        standardized = np.divide(drawn, scale, out=np.zeros_like(drawn), where=known & (scale > 0))
        return scale * np.quantile(standardized.max(1, initial=0.0), confidence, method="higher")

    of_all = width(None if seeds is None else seeds.draws)
    return Bounds(
        upper=np.where(known, shortfall + of_all, np.inf),
        width=of_all,
        width_if_known=of_all if seeds is None else width(seeds.draws_if_known),
        example_variance=example_variance,
        seed_variance=seed_variance,
    )
