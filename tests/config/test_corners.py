"""The order and the corners of a space."""

from typing import Any

import pytest

from prunedlora.config.corners import corners
from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of


def test_circular_conditions(tree: dict[str, Any]) -> None:
    tree["space"]["seed"] = {"choice": [1], "when": {"adapter.alpha": [1]}}
    tree["space"]["adapter.alpha"] = {"choice": [1], "when": {"seed": [1]}}
    assert "space: `when` goes in a circle: seed, adapter.alpha" in error_of(tree)


@pytest.mark.parametrize("top", [1200, 2500, 10**9])
def test_an_even_selection_of_a_wide_range_meets_both_ends_of_the_others(tree: dict[str, Any], top: int) -> None:
    tree["space"] = {"optimizer.learning_rate": {"uniform": [0.25, 0.5]}, "training.num_steps": {"int": [100, top]}}
    found = list(corners(parse_sweep(tree, "x.yaml").space, inner=True))
    between = [v for v in found if v["training.num_steps"] not in (100, top)]
    assert 500 < len(between) <= 2048 + 4
    rates = [{v["optimizer.learning_rate"] for v in between if v["training.num_steps"] == steps} for steps in
             {v["training.num_steps"] for v in between}]  # fmt: skip
    assert all(met >= {0.25, 0.5} for met in rates)
