"""Which candidates are compared example by example: only those that were scored on the same ones, and count alike."""

import numpy as np
import pytest

from prunedlora.results.analysis.example_errors import example_errors
from prunedlora.results.analysis.pareto import Objectives, points
from prunedlora.results.record import ExampleOutcomes

N = 40


@pytest.fixture
def errors_of(fill, record, candidate):
    def make(objectives, targets, fingerprints):
        made = []
        for key, fingerprint in zip("abc", fingerprints, strict=True):
            one = record(key, candidate(0.5, 100))
            data = {} if fingerprint is None else {"fingerprint": fingerprint}
            made.append(one.model_copy(update={"environment": one.environment.model_copy(update={"data": data})}))
        store = fill(*made)
        for key, number in zip("abc", targets, strict=True):
            correct = {"accuracy": (1, 0) * (N // 2)}
            outcomes = ExampleOutcomes(loss_sums=(1.0, 2.0) * (N // 2), num_targets=(number,) * N, scores=correct)
            store.write_outcomes(key, "10", outcomes)
        objectives = Objectives.parse(objectives)
        found = points(made, objectives)
        return example_errors(store, found, np.arange(3), objectives, np.random.default_rng(0), 50)

    return make


ACCURACY = {"accuracy": "maximize", "adapter_params": "minimize"}
LOSS = {"loss": "minimize", "adapter_params": "minimize"}


def test_the_same_examples_are_drawn_for_all(errors_of):
    for objectives in (ACCURACY, LOSS):
        found = errors_of(objectives, (1, 1, 1), "fff")
        assert found.paired
        np.testing.assert_array_equal(found.draws[:, 0], found.draws[:, 2])


def test_losses_over_other_targets_are_no_pairs_and_shares_of_right_examples_are(errors_of):
    assert errors_of(ACCURACY, (1, 1, 2), "fff").paired
    found = errors_of(LOSS, (1, 1, 2), "fff")
    assert [point.key for point in found.on_other_data] == ["c"]
    assert not np.array_equal(found.draws[:, 0], found.draws[:, 2])


def test_without_a_fingerprint_of_the_data_nothing_is_paired(errors_of):
    found = errors_of(ACCURACY, (1, 1, 1), ("f", "f", None))
    assert [point.key for point in found.without_outcomes] == ["c"]
    assert not found.paired
