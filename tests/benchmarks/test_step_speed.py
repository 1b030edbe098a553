"""The benchmark of a step measures the variants that it names."""

import sys
from pathlib import Path

import pytest
import torch

from prunedlora.adapters.layers import adapted_layers
from prunedlora.benchmarks.product.step_speed import (
    SHRINK_AT,
    MemoryMeasurementError,
    _forget_peak,
    _resident_bytes,
    median_seconds,
    peak_bytes,
    start,
    variants,
)
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.trial.assets import load_assets
from tests.tiny import sweep_tree

CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path: Path) -> TrialConfig:
    torch.set_num_threads(1)
    return parse_sweep(sweep_tree(tmp_path / "tiny", "unused"), "test").trial


def test_every_variant_is_timed_in_the_shape_that_its_name_says(base: TrialConfig) -> None:
    configs = variants(base, 6, 2, num_steps=20)
    assets = load_assets(base, CPU)
    lives = {name: start(config, assets, CPU) for name, config in configs.items()}
    medians = median_seconds(lives, num_rounds=2, round_steps=2, device=CPU)
    assert medians.keys() == configs.keys()
    assert all(seconds > 0 for seconds in medians.values())
    ranks = {name: {layer.rank for layer in adapted_layers(live.model, "default")} for name, live in lives.items()}
    assert ranks == {
        "lora_initial": {6},
        "waiting": {6},
        "observing_batch": {6},
        "observing_token": {6},
        "shrunk": {2},
        "lora_target": {2},
    }
    hooks = {name: any(m._forward_hooks for m in live.model.modules()) for name, live in lives.items()}
    assert hooks["observing_token"]
    assert not hooks["waiting"]
    assert not hooks["shrunk"]
    assert not hooks["lora_initial"]
    assert min(live.step for live in lives.values()) > SHRINK_AT


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_that_of_what_came_after_it_was_forgotten() -> None:
    large = torch.ones(50_000_000)
    before = _resident_bytes()
    del large
    _forget_peak()
    assert _resident_bytes() < before - 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_process_that_dies_while_its_memory_is_measured_is_an_error(base: TrialConfig) -> None:
    gone = trial_with(base, {"model.name": f"{base.model.name}-gone"})
    with pytest.raises(MemoryMeasurementError, match="memory of lora_initial died with exit code 1"):
        peak_bytes("lora_initial", gone, CPU)
