"""What tests of trials that begin with an adapter that exists share (originals.py); none of them changes it."""

from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.identity import trial_key
from prunedlora.trial.assets import AssetCache
from tests.trial.originals import CPU, SVD, down_from_scratch, record_of, run, tree_in


@pytest.fixture(scope="package")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="package")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tree_in(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="package")
def trained(tree: dict[str, Any], assets: AssetCache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a ladder of a trunk of six steps and two rungs of four, and the name of the trunk's adapter."""
    path = tmp_path_factory.mktemp("trained") / "store"
    trial = down_from_scratch(tree, SVD, {}, {})
    run(trial, path, assets)
    record_of(trial, path)
    return path, f"store:{path}/{trial_key(trial)}@6"
