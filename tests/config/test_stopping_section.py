"""What a sweep refuses of its stopping, and of what its study is told."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stopping": {"looks": [0.3, 0.1]}}, "looks must rise: [0.3, 0.1]"),
        ({"stopping": {"looks": [0.1, 0.1]}}, "looks must rise: [0.1, 0.1]"),
        ({"stopping": {"looks": [0.0]}}, "stopping.looks.0: Input should be greater than 0"),
        ({"stopping": {"looks": [1.0]}}, "stopping.looks.0: Input should be less than 1"),
        ({"stopping": {"examples": 0}}, "stopping.examples: Input should be greater than 0"),
        ({"stopping": {"margin": -1}}, "stopping.margin: Input should be greater than or equal to 0"),
        ({"stopping": {"then": "kill"}}, "stopping.then: Input should be 'stop' or 'pause'"),
        ({"stopping": {"looks": []}}, "stopping has nothing to look at: no looks, and trials of one candidate"),
        (
            {"stopping": {}, "objectives": {"accuracy": "maximize", "file_bytes": "minimize"}},
            "the size that they are going to have, and 'file_bytes' is not known before the training: take one of "
            "adapter_params,",
        ),
        (
            {"stopping": {}, "num_trials": 0, "space": {}, "baselines": [{"seed": 1}]},
            "stopping has no effect with num_trials 0: baselines are never stopped; set stopping to null",
        ),
        (
            {"telling": "area", "objectives": {"accuracy": "maximize", "file_bytes": "minimize"}},
            "telling 'area' takes sizes that are known before training, and 'file_bytes' is not: take telling "
            "'candidates'",
        ),
    ],
)
def test_what_cannot_be_or_has_no_effect_is_refused(
    tree: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    assert message in error_of(tree | changes)


def test_candidates_on_the_way_are_looked_at_without_further_looks(tree: dict[str, Any]) -> None:
    tree["stopping"] = {"looks": []}
    put(tree, "trial.evaluation.milestones", [0.5])
    assert parse_sweep(tree, "x.yaml").stopping is not None
    put(tree, "trial.evaluation.milestones", [])
    tree["trial"]["pruning"] = {"schedule": {"name": "ladder", "rungs": {"mean_rank": [4]}}}
    assert parse_sweep(tree, "x.yaml").stopping is not None


def test_it_is_off_unless_given_and_a_number_of_examples_counts_where_it_is_given(tree: dict[str, Any]) -> None:
    assert parse_sweep(tree, "x.yaml").stopping is None
    for stopping, asked in (({}, None), ({"examples": 200}, 200), ({"examples": None}, None)):
        found = parse_sweep(tree | {"stopping": stopping}, "x.yaml").stopping
        assert found is not None
        assert found.asked_examples == asked
