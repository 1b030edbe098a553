"""How sure a comparison of adapters is: the noise of the examples that they were measured on.

Candidates that were scored on the same examples err together: a hard example is hard for all of them. Differences are
therefore known better than each accuracy by itself, and only a paired resampling sees that
(https://doi.org/10.1214/aos/1176344552 for the bootstrap).

"Measured" is always a quality with its sign such that more is better.
"""

from collections.abc import Callable, Collection, Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from prunedlora.corpus_figures import CORPUS_FIGURES, LOWEST, resampled
from prunedlora.results.record import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_DRAWN = 20_000_000
"""Examples that are drawn at once: it takes about half a gigabyte."""
NUM_DRAWS = 2000
"""Resamplings: the 95 % quantile of 2,000 draws is known to half a percentage point."""
BEATEN = 2.0
"""Widths of a bound beside the best measured by which an adapter must be behind it to be taken for none that could be
the truly best."""


def interval_of(name: str, figure: Figure, confidence: float, num_choices: int = 1) -> tuple[float, float] | None:
    """Two-sided interval of a figure over other draws of as many examples; None where no probability can be given.

    `num_choices`: from how many the figure was picked because it looked best; the interval holds for all of them at
    once (Bonferroni), and so for the picked one.
    Mean scores have the exact one of Clopper and Pearson (https://doi.org/10.1093/biomet/26.4.404), which covers at
    least what it states where Wilson's covers too little near 0 and 1. It is for shares of right examples; scores
    between 0 and 1 vary less, and count as the number of right or wrong ones that would have this standard error:
    p (1 − p) / stderr² + 1, which is n for a share. Figures of all classes together (corpus_figures.py) are no means:
    theirs is the normal one, cut at what they can be, and none where the jackknife finds no error, since how rare the
    classes are is not known here. None for a loss and other figures beyond 0 and 1: their standard error does not tell
    what a rare example may cost.
    """
    if figure.stderr is None or (name in CORPUS_FIGURES and figure.stderr == 0):
        return None
    tail = (1 - confidence) / num_choices / 2
    if name in CORPUS_FIGURES:
        z = NormalDist().inv_cdf(1 - tail)
        return (
            max(figure.value - z * figure.stderr, LOWEST[name]),
            min(figure.value + z * figure.stderr, 1.0),
        )
    if name == "loss" or not 0 <= figure.value <= 1:
        return None
    n, p = float(figure.num_examples), figure.value
    if figure.stderr > 0:
        n = max(n, p * (1 - p) / figure.stderr**2 + 1)
    right, wrong = p * n, (1 - p) * n
    return (
        float(beta.ppf(tail, right, wrong + 1)) if right > 0 else 0.0,
        float(beta.ppf(1 - tail, right + 1, wrong)) if wrong > 0 else 1.0,
    )


def draw_means(scores: Floats, weights: Floats | None, rng: np.random.Generator, num_draws: int = NUM_DRAWS) -> Floats:
    """Means of C candidates on resampled examples, (num_draws, C).

    `scores` (C, n): what each example adds; `weights` (C, n): what it counts (targets of a loss), None: one each.
    Examples are not drawn but weighted, each by an exponential number (https://doi.org/10.1214/aos/1176345338): no
    draw is without one, and with one more example at the worst its quantiles are an upper limit of a mean that is
    known to hold for few examples too (https://arxiv.org/abs/1905.06208).
    """
    n = scores.shape[1]
    means = []
    for num in blocks(num_draws, n):
        counts = rng.exponential(1.0, (num, n))
        totals = counts @ scores.T
        means.append(totals / (counts.sum(1, keepdims=True) if weights is None else counts @ weights.T))
    return np.concatenate(means)


def blocks(num_draws: int, n: int) -> list[int]:
    """How many draws of n examples to make at once, until there were `num_draws`."""
    at_once = max(1, MOST_DRAWN // n)
    return [min(at_once, num_draws - begin) for begin in range(0, num_draws, at_once)]


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
    for num in blocks(num_draws, n):
        drawn = rng.integers(n, size=(num, n)) + n * np.arange(num)[:, None]
        yield np.bincount(drawn.ravel(), minlength=num * n).reshape(num, n).astype(np.float64)


def largest_standardized(drawn: Floats, scale: Floats) -> Floats:
    """(num_draws,) the largest of K errors `drawn` (num_draws, K), each as a multiple of its `scale` (K,); 0 where all
    are below. Its quantile bounds all of them at once (max-t: https://doi.org/10.1198/016214504000000539)."""
    standardized = np.divide(drawn, scale, out=np.zeros_like(drawn), where=scale > 0)
    return np.asarray(standardized.max(1, initial=0.0))


def shortfall_bounds(
    means: Floats,
    errors: Floats,
    confidence: float,
    rng: np.random.Generator,
    *,
    one_more: Callable[[int], Floats],
    controls: Collection[int] | None = None,
) -> Floats:
    """(C,) upper bounds on how much worse than the truly best of C adapters each truly is, whichever that is.

    They hold for all of them at once with probability `confidence`, so that the one which looks best may be picked
    afterwards: multiple comparisons with the best (Hsu, https://doi.org/10.1214/aos/1176346732). Was adapter j the
    truly best, all others would be bounded beside it as beside a control (Dunnett,
    https://doi.org/10.1080/01621459.1955.10501294), the critical value d_j from the draws, which know how adapters err
    together; since it is not known which one is, the largest of these bounds counts:

        max q − q_c ≤ max_j (mean_j − mean_c + d_j · s_jc), at least 0

    s_jc is not the standard error but the error that the difference itself exceeds in the share 1 − confidence of the
    draws (at most 10 %), so that differences of skewed errors get their room.
    `means` (C,) measured, more is better; `errors` (num_draws, C) resampled minus measured; NaN where they are not
    known, and the bound is infinite: its own, and all where the best measured is one. `one_more(j)` (C,): what one
    example more may add to how much worse than j each is. Two that did not differ on n examples may still differ on 3
    of n (95 %), of which no resampling knows: as in the exact limit of a rare count
    (https://doi.org/10.1093/biomet/28.3-4.437), one more such example is taken to speak against each.
    `controls`: of j those alone, where it is known that the largest is beside one of them; None: all.
    """
    known = np.flatnonzero(np.isfinite(errors).all(0))
    upper = np.full(len(means), np.inf)
    if int(means.argmax()) not in known:
        return upper
    upper[known] = 0.0
    rare = rng.exponential(1.0, (len(errors), len(known)))
    order = np.argsort(-means[known], kind="stable")
    beaten = np.zeros(len(means), dtype=bool)
    for place in order:
        control, others = known[place], np.delete(known, place)
        if beaten[control] or (controls is not None and int(control) not in controls):
            continue
        one_example = one_more(int(control))[others] * np.delete(rare, place, axis=1)
        drawn = errors[:, [control]] - errors[:, others] + one_example
        scale = np.quantile(drawn, max(confidence, 0.9), axis=0)
        width = scale * np.quantile(largest_standardized(drawn, scale), confidence, method="higher")
        shortfall = means[control] - means[others]
        upper[others] = np.maximum(upper[others], shortfall + width)
        if place == order[0]:
            beaten[others] = shortfall > BEATEN * width
    return upper
