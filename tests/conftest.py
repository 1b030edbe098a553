"""Fixtures of several rooms: small sweeps, and one Ray for all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from tests import inventions


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., SweepConfig]:
    """Makes a small sweep in tmp_path/store; keyword arguments replace top-level fields."""

    def make(**changes: Any) -> SweepConfig:
        return parse_sweep(inventions.sweep_tree(tmp_path / "store", **changes), "test")

    return make


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """One local Ray for all tests that need one."""
    from ray import cloudpickle

    from prunedlora.fleet import cluster

    # Workers need not find the tests on their path.
    cloudpickle.register_pickle_by_value(inventions)
    with cluster.connected():
        yield
