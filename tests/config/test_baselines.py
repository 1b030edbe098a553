"""Baselines and their labels."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("baselines", [{"adapter.rank": 3}], "baselines[0].adapter.rank: 'adapter.rank' is no field of a trial"),
        ("baselines", [{"label": ""}], "baselines: label '' must be a text"),
        ("baselines", [{"label": "a"}, {"label": "a", "seed": 1}], "baselines: label 'a' is given twice"),
        ("baselines", [{"adapter.method": "lora"}], "the pruning section has no effect on method 'lora'"),
    ],
)
def test_a_baseline_that_cannot_be_is_refused(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


def test_one_trial_has_one_label(tree: dict[str, Any]) -> None:
    tree["baselines"] = [{"label": "a", "seed": 3}, {"label": "b", "seed": 4}, {"label": "c", "seed": 3}, {"seed": 3}]
    assert "baselines[2]: 'c' is the same trial as 'a'" in error_of(tree)
    del tree["baselines"][2]
    assert len(parse_sweep(tree, "x.yaml").baselines) == 3
