"""A stored adapter on the test split, on a tiny model."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.results.analysis.tested import TEST_FILE, read_test
from prunedlora.results.record import RecordError
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import sweep_tree

ALONE = Workers(0, 1, torch.device("cpu"))


def checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_the_exported_adapter_on_the_test_split(tmp_path: Path) -> None:
    """Loaded by PEFT from its folder, and merged; the base is as before."""
    tree = sweep_tree(tmp_path, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    store.create_or_open(tree)
    trial, assets = parse_sweep(tree, "test").trial, AssetCache(ALONE.device)
    key = trial_key(trial)
    before = checksum(assets.get(trial).base.model)
    execute_trial(
        trial, key, store=store, assets=assets, workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    path = store.trial_path(key, "adapters", "000012", TEST_FILE)
    with pytest.raises(RecordError, match="the test evaluation left no figures"):
        read_test(store, path)
    for text in ("{}", '{"figures": {"accuracy": {}}}'):
        store.storage.write_text(path, text)
        with pytest.raises(RecordError, match=r"test\.json: not a valid OnTest: figures"):
            read_test(store, path)
    measure_test(trial, key, "12", store=store, assets=assets, workers=ALONE)
    assert read_test(store, path).figures["accuracy"].num_examples == 20
    certificate = json.loads(store.storage.read_text(path) or "")["certificate"]
    assert certificate["max_logit_difference_merged"] < 1e-4
    assert checksum(assets.get(trial).base.model) == before
