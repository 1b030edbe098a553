"""What a slot keeps from trial to trial."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.fields import with_values
from prunedlora.config.load import load_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.trial import assets
from prunedlora.trial.assets import AssetCache


def test_data_that_changed_are_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the key of the new file would stand over what was learned from the old one."""
    loads: list[TrialConfig] = []
    monkeypatch.setattr(assets, "load_assets", lambda trial, device: loads.append(trial) or object())
    path = tmp_path / "train.csv"
    train: dict[str, Any] = {"name": str(path), "prompt": "{text}", "target": "{label}"}
    fields = load_sweep(Path("search_spaces/quickstart.yaml")).trial.model_dump()
    trial = TrialConfig.model_validate(with_values(fields, {"data.train": train}))
    cache = AssetCache(torch.device("cpu"))
    for text, number in (("text,label\nx,1\n", 1), ("text,label\nz,1\n", 2)):
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        assert cache.get(trial) is cache.get(trial)
        assert len(loads) == number
