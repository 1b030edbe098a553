"""Scaled losses: a power of two leaves no bit changed in what is trained in float32; what overflows begins anew with
half of it; float16 trains, is verified and exported as the other types are."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from prunedlora.config.identity import trial_key
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.form import Form
from prunedlora.methods.prunedlora import PrunedLora
from prunedlora.registry import names
from prunedlora.results.store import Store
from prunedlora.training import loss_scale
from prunedlora.training.distributed import Workers
from prunedlora.training.loss_scale import LossScale
from prunedlora.trial import assemble
from prunedlora.trial.assets import AssetCache
from tests.pairwise import pairwise
from tests.trial.test_execute_memory import CPU, findings, record_of, run
from tests.trial.test_execute_methods import trial_of

EXACT, TOO_LARGE = 2.0**10, 2.0**120
FORMS: dict[str, dict[str, Any]] = {
    "token": {"curvature": "token", "recovery_strength": 0.5},
    "batch": {"curvature": "batch", "recovery_strength": 0.5},
    "token, with the gradient": {"curvature": "token", "gradient_cap": 0.5, "recovery_strength": 1.0},
    "batch, with the gradient": {"curvature": "batch", "gradient_cap": 0.5, "recovery_strength": 1.0},
    "token, both sides": {"curvature": "token", "recovery_side": "both", "recovery_strength": 0.5},
    "whitened": {"basis": "whitened"},
    "svd": {"basis": "svd"},
}
"""Beside every criterion: what else is made of gradients."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], None]:
    """Sets what losses are multiplied by from the first step on, whatever a training computes in."""

    def begin_with(scale: float | None) -> None:
        found = None if scale is None else LossScale(scale)
        monkeypatch.setattr(assemble, "loss_scale_for", lambda _: found and LossScale(found.scale))

    return begin_with


def changes(trial: TrialConfig, store: Store) -> list[tuple[int, float]]:
    return [
        (line["step"], line["loss_scale"]) for line in store.read_log(trial_key(trial)) if line.get("loss_scale")
    ]
