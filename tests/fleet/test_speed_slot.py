"""Speeds measured by the workers of a real slot."""

from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.fleet.speed_slot import SpeedError, measure_in_slot
from prunedlora.results.storage import Storage
from tests.tiny import sweep_tree


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    return sweep_tree(tmp_path, tmp_path / "store")


@pytest.mark.slow
def test_speeds_come_back_and_nothing_is_left(tree: dict[str, Any], tmp_path: Path, shared_ray: None) -> None:
    """With why, where a training fails."""
    config, storage = parse_sweep(tree, "test"), Storage(str(tmp_path / "store"))
    startup, [speed] = measure_in_slot({"kind": config.trial}, config.resources, storage)
    assert (speed.kind, speed.device, speed.num_steps) == ("kind", "cpu", 9)
    assert startup > 0
    assert storage.names("") == []
    nowhere = config.trial.model.model_copy(update={"name": str(tmp_path / "nowhere")})
    broken = config.trial.model_copy(update={"model": nowhere})
    with pytest.raises(SpeedError, match=r"a training that was to be measured failed: \w+Error: .*nowhere"):
        measure_in_slot({"kind": broken}, config.resources, storage)
    assert storage.names("") == []
