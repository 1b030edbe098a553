"""Constraints that a sweep's file gets wrong."""

from typing import Any

import pytest

from prunedlora.config.load import ConfigError, parse_sweep
from tests.inventions import SPACE, sweep_tree


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (
            {"accuracy": 1},
            "constraints.accuracy is no size; known: adapter_params, adapter_bytes, max_rank, ",
        ),
        ({"file_bytes": 1}, "constraints.file_bytes is not known before a training; take adapter_bytes"),
        ({"served_slot_bytes": 1}, "take served_slot (known"),
        ({"max_rank": 0}, "constraints.max_rank must be above 0, got 0"),
    ],
)
def test_bad_input(tmp_path: Any, constraints: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sweep(sweep_tree(tmp_path, space=SPACE, constraints=constraints), "test")
    assert message in str(caught.value)
