"""Balanced accuracy, macro F1 and Matthews' correlation: against scikit-learn, and their definitions by brute force."""

import warnings

import numpy as np
import pytest

from prunedlora.corpus_figures import CORPUS_FIGURES, LOWEST, corpus_stderr, corpus_value, largest_step, resampled

NAMES = sorted(CORPUS_FIGURES)


def by_definition(name, true, predicted):
    """The figure by its words, example by example; no counts, no arrays."""
    pairs, classes = list(zip(true, predicted, strict=True)), set(true) | set(predicted)
    if name == "matthews":  # the correlation of the two one-hot codings
        n = len(pairs)
        mean = [{k: sum(pair[i] == k for pair in pairs) / n for k in classes} for i in (0, 1)]

        def covariance(i, j):
            return sum(((p[i] == k) - mean[i][k]) * ((p[j] == k) - mean[j][k]) for p in pairs for k in classes)

        spread = covariance(0, 0) * covariance(1, 1)
        return covariance(0, 1) / spread**0.5 if spread > 1e-12 else 0.0
    shares = []
    for k in classes:
        hits = sum(t == p == k for t, p in pairs)
        of_it, said = sum(t == k for t, _ in pairs), sum(p == k for _, p in pairs)
        if name == "macro_f1":
            shares.append(2 * hits / (of_it + said))
        elif of_it:
            shares.append(hits / of_it)
    return sum(shares) / len(shares)


def predictions(num_classes, n, seed):
    """Of unequal classes, most of them right; and classes that nobody has or says where n is small."""
    draw = np.random.default_rng(seed)
    true = draw.choice(num_classes, n, p=(weights := np.arange(1, num_classes + 1.0)) / weights.sum())
    return true, np.where(draw.random(n) < 0.6, true, draw.integers(num_classes, size=n))


CASES = [predictions(k, n, seed) for k, n in ((2, 6), (3, 25), (7, 9)) for seed in range(4)]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_the_definition_and_of_scikit_learn(name):
    for true, predicted in CASES:
        assert corpus_value(name, true, predicted) == pytest.approx(by_definition(name, true, predicted), abs=1e-12)
    metrics = pytest.importorskip("sklearn.metrics")
    theirs = {
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "macro_f1": lambda true, predicted: metrics.f1_score(true, predicted, average="macro", zero_division=0),
        "matthews": metrics.matthews_corrcoef,
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that only predictions have
        for true, predicted in CASES:
            assert corpus_value(name, true, predicted) == pytest.approx(theirs(true, predicted), abs=1e-12)


def test_absent_classes_and_denominators_of_zero():
    one, other = np.array([0, 0, 0, 2]), np.array([0, 0, 0, 0])
    # Class 1 is nobody's; class 2 is never predicted: recall and F1 0 there. 3 of 4 predicted right is F1 6 / 7.
    assert corpus_value("balanced_accuracy", one, other) == 0.5
    assert corpus_value("macro_f1", one, other) == pytest.approx(6 / 7 / 2)
    assert corpus_value("matthews", one, other) == 0.0
    # The other way round class 2 has no examples: no recall of it, but an F1 of 0.
    assert corpus_value("balanced_accuracy", other, one) == 0.75
    assert corpus_value("macro_f1", other, one) == pytest.approx(6 / 7 / 2)
    assert corpus_value("matthews", other, other) == 0.0
    assert corpus_value("matthews", one, one) == 1.0
    two = np.array([0, 1, 0, 1])
    assert corpus_value("matthews", two, 1 - two) == -1.0 == LOWEST["matthews"]


@pytest.mark.parametrize("name", NAMES)
def test_standard_errors_are_the_jackknife_s_by_leaving_out_each(name):
    for true, predicted in CASES:
        n = len(true)
        left = np.array([by_definition(name, np.delete(true, i), np.delete(predicted, i)) for i in range(n)])
        expected = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
        assert corpus_stderr(name, true, predicted) == pytest.approx(expected, abs=1e-12)
    assert corpus_stderr(name, np.array([1]), np.array([1])) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_jackknife_agrees_with_the_bootstrap(name):
    true, predicted = predictions(4, 600, 0)
    drawn = np.random.default_rng(1).multinomial(600, np.full(600, 1 / 600), size=2000).astype(float)
    spread = resampled(name, true, predicted[None], drawn).std()
    assert corpus_stderr(name, true, predicted) == pytest.approx(spread, rel=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_resampled_figures_are_those_of_the_drawn_examples(name):
    for true, predicted in CASES:
        draw = np.random.default_rng(2)
        picks = draw.integers(len(true), size=(6, len(true)))
        drawn = np.stack([np.bincount(pick, minlength=len(true)) for pick in picks]).astype(float)
        found = resampled(name, true, np.stack([predicted, predicted[::-1]]), drawn)
        for pick, (one, other) in zip(picks, found, strict=True):
            assert one == pytest.approx(by_definition(name, true[pick], predicted[pick]), abs=1e-12)
            assert other == pytest.approx(by_definition(name, true[pick], predicted[::-1][pick]), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_one_example_more_decides_at_most_the_largest_step(name):
    for true, predicted in CASES:
        present = sorted(set(true) | set(predicted))
        steps = []
        for of_it in set(true):
            values = [by_definition(name, [*true, of_it], [*predicted, said]) for said in present]
            steps.append(max(values) - min(values))
        assert largest_step(name, true, predicted) == pytest.approx(max(steps), abs=1e-12)
    # Of a class with 4 examples one more is a fifth of its recall, and the classes are two.
    true = np.array([0] * 16 + [1] * 4)
    assert largest_step("balanced_accuracy", true, true) == pytest.approx(1 / 5 / 2)
