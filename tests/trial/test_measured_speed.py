"""Speeds of tiny models: what is measured, and that the base model is left as it was."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.measured_speed import NotMeasuredError, measure_speed
from tests.tiny import decoder_tree, sweep_tree

CPU = torch.device("cpu")


def measure(trial: TrialConfig, assets: AssetCache, **more: Any) -> Any:
    return measure_speed(trial, "kind", assets=assets, workers=Workers(0, 1, CPU), **more)


def test_a_few_steps_some_examples_and_an_export(tmp_path: Path) -> None:
    """Of a training of 12 steps all but the 3 that warm up. By a clock that goes on a second whenever it is read, the
    20 examples of one evaluation take one, which does not tell enough, but there are no more."""
    trial = parse_sweep(sweep_tree(tmp_path, tmp_path / "store"), "test").trial
    assets = AssetCache(CPU)
    before = {name: tensor.clone() for name, tensor in assets.get(trial).base.model.state_dict().items()}
    ticks = itertools.count()
    speed = measure(trial, assets, clock=lambda: float(next(ticks)))
    assert (speed.kind, speed.device, speed.num_steps) == ("kind", "cpu", 9)
    assert (speed.loading_seconds, speed.example_seconds, speed.export_seconds) == (1.0, 1 / 20, 1.0)
    assert speed.answer_seconds is None
    assert 0.0 < speed.position_seconds < speed.step_seconds
    assert speed.peak_bytes > 2**20
    after = assets.get(trial).base.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_steps_end_when_they_have_taken_long_enough(tmp_path: Path) -> None:
    trial = parse_sweep(sweep_tree(tmp_path, tmp_path / "store"), "test").trial
    ticks = itertools.count(step=6)
    assert measure(trial, AssetCache(CPU), clock=lambda: float(next(ticks))).num_steps == 4  # 24 s


def test_answers_and_full_fine_tuning(tmp_path: Path) -> None:
    """An answer has a speed of its own where the metric is made of answers; no adapter is exported of none."""
    tree = decoder_tree(tmp_path, tmp_path / "store", metric="exact_match", max_new_tokens=4)
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    trial = parse_sweep(tree, "test").trial
    assets = AssetCache(CPU)
    speed = measure(trial, assets)
    assert speed.answer_seconds is not None
    assert speed.answer_seconds > speed.example_seconds > 0
    fields = trial.model_dump(exclude={"adapter", "pruning"}, exclude_unset=True)
    full = TrialConfig.model_validate(fields | {"full": {}})
    assert measure(full, assets).export_seconds == 0.0


def test_what_trains_nothing_is_refused(tmp_path: Path) -> None:
    trial = parse_sweep(sweep_tree(tmp_path, tmp_path / "store"), "test").trial
    still = trial.model_copy(update={"training": trial.training.model_copy(update={"num_steps": 0})})
    with pytest.raises(NotMeasuredError, match=r"training\.num_steps is 0: nothing is trained"):
        measure(still, AssetCache(CPU))
