"""Entries of a space."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("space", {"seed": {"choices": [1]}}, "space.seed: an entry has exactly one of choice, uniform, log_uniform"),
        ("space", {"seed": {"choice": [1], "int": [1, 2]}}, "space.seed: an entry has exactly one of choice"),
        ("space", {"seed": {"choice": [1, 1]}}, "choice lists a value twice: [1, 1]"),
        ("space", {"seed": {"int": [3, 1]}}, "int: lowest 3 must lie below highest 1"),
        ("space", {"seed": {"int": [1, 4], "step": 2}}, "int: 4 is not reached from 1 in steps of 2"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


def test_whole_numbers_may_be_spaced_by_their_logarithm(tree: dict[str, Any]) -> None:
    tree["space"] = {"adapter.initial_rank": {"log_int": [8, 64]}}
    assert parse_sweep(tree, "x.yaml").space["adapter.initial_rank"].corners() == [8, 64]
