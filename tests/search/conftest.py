"""Fixtures of the tests of search/."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig

sys.path.insert(0, str(Path(__file__).parent))

from inventions import sweep_tree


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., SweepConfig]:
    """Makes a small sweep in tmp_path/store; keyword arguments replace top-level fields."""

    def make(**changes: Any) -> SweepConfig:
        return parse_sweep(sweep_tree(tmp_path / "store", **changes), "test")

    return make
