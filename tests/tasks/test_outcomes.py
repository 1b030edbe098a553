import math
from dataclasses import replace

import numpy as np
import pytest

from prunedlora.tasks.outcomes import Outcomes, figures, interleave


def outcomes(n: int, seed: int = 0) -> Outcomes:
    draw = np.random.default_rng(seed)
    num_targets = draw.integers(1, 9, n)
    loss_sums = num_targets * draw.gamma(2.0, 0.5, n)
    return Outcomes(loss_sums.tolist(), num_targets.tolist(), {"exact_match": draw.integers(0, 2, n).tolist()})


def test_with_one_target_each_the_errors_are_those_of_a_mean() -> None:
    draw = np.random.default_rng(0)
    losses, correct = draw.gamma(2.0, 0.5, 50), draw.integers(0, 2, 50)
    found = figures(Outcomes(losses.tolist(), [1] * 50, {"accuracy": correct.tolist()}))
    for metric, values in (("loss", losses), ("accuracy", correct)):
        stderr = found[metric].stderr
        assert stderr is not None
        assert found[metric].value == pytest.approx(values.mean(), rel=1e-12)
        assert stderr == pytest.approx(values.std(ddof=1) / math.sqrt(50), rel=1e-12)
        assert found[metric].num_examples == 50


def test_the_loss_is_per_target_and_its_error_agrees_with_the_bootstrap() -> None:
    sample = outcomes(400)
    sums, counts = np.array(sample.loss_sums), np.array(sample.num_targets)
    draw = np.random.default_rng(1)
    picks = draw.integers(0, 400, (4000, 400))
    bootstrap = (sums[picks].sum(1) / counts[picks].sum(1)).std()
    loss = figures(sample)["loss"]
    assert loss.value == pytest.approx(sums.sum() / counts.sum(), rel=1e-12)
    assert loss.stderr == pytest.approx(bootstrap, rel=0.05)


def test_one_example_has_no_standard_error() -> None:
    found = figures(Outcomes([2.0], [4], {"exact_match": [1]}))
    assert (found["loss"].value, found["loss"].stderr) == (0.5, None)
    assert (found["exact_match"].value, found["exact_match"].stderr) == (1.0, None)


def test_no_examples() -> None:
    with pytest.raises(ValueError, match="no outcomes: nothing was evaluated"):
        figures(Outcomes([], [], {}))


@pytest.mark.parametrize(("n", "workers"), [(7, 1), (7, 3), (2, 4), (12, 4)])
def test_shards_by_turns_come_back_in_order(n: int, workers: int) -> None:
    whole = outcomes(n)
    shards = [
        Outcomes(
            whole.loss_sums[k::workers],
            whole.num_targets[k::workers],
            {"exact_match": whole.scores["exact_match"][k::workers]},
            *([*range(n)][k::workers], [*range(n, 2 * n)][k::workers]),
        )
        for k in range(workers)
    ]
    classes = {"true_classes": [*range(n)], "predicted_classes": [*range(n, 2 * n)]}
    assert interleave(shards) == replace(whole, **classes)


def test_shards_that_are_no_sharing() -> None:
    with pytest.raises(ValueError, match=r"shards of \[2, 3\] examples are no sharing of 5 examples by turns"):
        interleave([outcomes(2), outcomes(3)])


def test_scores_that_are_fractions_have_the_error_of_their_spread():
    scores = np.random.default_rng(3).beta(2.0, 1.0, 60)
    found = figures(Outcomes([0.5] * 60, [1] * 60, {"rouge": scores.tolist()}))["rouge"]
    np.testing.assert_allclose((found.value, found.stderr), (scores.mean(), scores.std(ddof=1) / 60**0.5), rtol=1e-12)
    whole = figures(Outcomes([0.5] * 5, [1] * 5, {"rouge": [0.25] * 5}))["rouge"]
    assert (whole.value, whole.stderr) == (0.25, 0.0)
