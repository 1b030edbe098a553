"""The base model's figures, on a tiny model."""

from pathlib import Path

import torch

from prunedlora.config.load import parse_sweep
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.base_reference import measure_base
from tests.tiny import sweep_tree


def test_base_reference(tmp_path: Path) -> None:
    tree, cpu = sweep_tree(tmp_path, tmp_path / "store"), torch.device("cpu")
    store = Store(str(tmp_path / "store"))
    store.create_or_open(tree)
    trial = parse_sweep(tree, "test").trial
    measure_base(trial, store=store, assets=AssetCache(cpu), workers=Workers(0, 1, cpu))
    base = store.read_base()
    assert base is not None
    assert base.figures["accuracy"].num_examples == 20
