"""Figures of a classifier that are made of all predictions together and are no mean over the examples.

Each is a pure function of three counts per class, arrays (…, K): how many examples of it were predicted right (`hits`),
are of it (`true`), and were said to be of it (`predicted`). Values and conventions are scikit-learn's
(https://scikit-learn.org/stable/modules/model_evaluation.html). Resampled over examples, a class that no drawn example
has, or is said to have, is absent from that draw by the same conventions.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


def balanced_accuracy(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    """Mean over the classes of the share of their examples that was predicted right; from 0 to 1. Classes without
    examples are left out."""
    return _mean_where(true > 0, hits, true)


def macro_f1(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    """Mean over the classes of F1 = 2 hits / (true + predicted); from 0 to 1. Classes that no example has or is said to
    have are left out; one that only predictions or only examples have counts with 0."""
    both = true + predicted
    return _mean_where(both > 0, 2 * hits, both)


def matthews(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    """Matthews' correlation of K classes, from -1 to 1 (Gorodkin, https://doi.org/10.1016/j.compbiolchem.2004.09.006):

        (n Σ hits − Σ true·predicted) / sqrt((n² − Σ true²) (n² − Σ predicted²))

    0 where the examples, or the predictions, are all of one class.
    """
    n = true.sum(-1)
    together = n * hits.sum(-1) - (true * predicted).sum(-1)
    apart = np.sqrt((n**2 - (true**2).sum(-1)) * (n**2 - (predicted**2).sum(-1)))
    return np.divide(together, apart, out=np.zeros_like(together), where=apart > 0)


CORPUS_FIGURES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "matthews": matthews,
}
LOWEST = {"balanced_accuracy": 0.0, "macro_f1": 0.0, "matthews": -1.0}
"""What each can be at least; all are at most 1."""


def corpus_value(name: str, true: Classes, predicted: Classes) -> float:
    """The figure of these predictions; `true`, `predicted` (n,): the classes of the examples, 0 … K − 1."""
    return float(CORPUS_FIGURES[name](*_counts(true, predicted)))


def corpus_stderr(name: str, true: Classes, predicted: Classes) -> float | None:
    """Standard error by the jackknife over the n examples (Efron and Stein, https://doi.org/10.1214/aos/1176345462):

        sqrt((n − 1) / n · Σ (θ₋ᵢ − mean of them)²)        θ₋ᵢ: the figure without example i

    exact, and computed once for all examples of one true and one predicted class, which leave the same. None for a
    single example.
    """
    n = len(true)
    if n < 2:
        return None
    cells, many = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    counts = _counts(true, predicted)
    num_classes = counts.shape[1]
    gone = _one_more(cells, num_classes)
    without = CORPUS_FIGURES[name](*(counts[:, None] - gone))
    mean = (many * without).sum() / n
    return float(np.sqrt((n - 1) / n * (many * (without - mean) ** 2).sum()))


def resampled(name: str, true: Classes, predicted: Classes, drawn: Floats) -> Floats:
    """(num_draws, C): the figure of C candidates on resampled examples. `true` (n,), `predicted` (C, n), `drawn`
    (num_draws, n): how often each example was drawn."""
    from scipy.sparse import csr_array

    n, num_classes = len(true), int(max(true.max(), predicted.max())) + 1

    def by_class(classes: Classes, kept: NDArray[np.bool_]) -> Floats:
        """(num_draws, K): how many of the drawn examples that are `kept` are of each class."""
        at = np.flatnonzero(kept)
        chosen = csr_array((np.ones(len(at)), (classes[at], at)), shape=(num_classes, n))
        return np.asarray((chosen @ drawn.T).T)

    every = np.ones(n, dtype=np.bool_)
    true_counts = by_class(true, every)
    figure = CORPUS_FIGURES[name]
    return np.stack(
        [figure(by_class(one, one == true), true_counts, by_class(one, every)) for one in predicted], axis=1
    )


def largest_step(name: str, true: Classes, predicted: Classes) -> float:
    """What the answer to one example more decides at most: the largest difference that it makes which class it is
    given, whatever class it is of, among those that occur."""
    counts = _counts(true, predicted)
    present = np.flatnonzero(counts[1] + counts[2])
    figure, steps = CORPUS_FIGURES[name], []
    for each in np.flatnonzero(counts[1]):
        given = _one_more(np.stack([np.full_like(present, each), present]), counts.shape[1])
        steps.append(np.ptp(figure(*(counts[:, None] + given))))
    return float(max(steps))


def _counts(true: Classes, predicted: Classes) -> Floats:
    """(3, K): hits, true, predicted."""
    num_classes = int(max(true.max(), predicted.max())) + 1
    rows = [np.bincount(each, minlength=num_classes) for each in (true[true == predicted], true, predicted)]
    return np.stack(rows).astype(np.float64)


def _one_more(cells: Classes, num_classes: int) -> Floats:
    """(3, cells, K): what one example of each cell (2, cells), its true and its predicted class, adds to the counts."""
    true, predicted = np.eye(num_classes)[cells]
    return np.stack([true * (cells[0] == cells[1])[:, None], true, predicted])


def _mean_where(occurs: NDArray[np.bool_], above: Floats, below: Floats) -> Floats:
    shares = np.divide(above, below, out=np.zeros_like(below), where=occurs)
    return np.asarray(shares.sum(-1) / occurs.sum(-1))
