"""A small network of linear layers of different shapes with an adapter on all of them, in float64."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.pruning.pruner import Event, Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from tests.pruning.variants import NUM_STEPS

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


class Network(nn.Module):
    """Tokens (batch, time, 6) → (batch, time, 3); `spare` never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 10)
        self.second = nn.Linear(10, 10)
        self.third = nn.Linear(10, 3)
        self.spare = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        x = torch.tanh(self.second(x)) + x
        return self.third(x)


@cache
def _network(rank: int, targets: tuple[str, ...], started: bool) -> bytes:
    """Thousands of tests begin with one of a few: attached once, and copied."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = Network().double()
        model = attach(network, AdapterSettings(rank, 2.0 * rank, False, 0.0, list(targets), []), "default", 5)
        if started:
            with torch.no_grad():
                for layer in adapted_layers(model, "default"):
                    layer.B.normal_(std=0.3)
    return pickle.dumps(model)


@pytest.fixture
def make_network() -> Callable[..., tuple[nn.Module, list[AdaptedLayer]]]:
    """An adapted network and its layers, the same every time; `targets` default to the three layers that run."""

    def make(
        rank: int = 6, targets: tuple[str, ...] = ("first", "second", "third"), started: bool = False
    ) -> tuple[nn.Module, list[AdaptedLayer]]:
        model = pickle.loads(_network(rank, targets, started))
        return model, adapted_layers(model, "default")

    return make


@pytest.fixture
def make_settings() -> Callable[..., PruningSettings]:
    """Pruning settings with overrides."""
    base = PruningSettings(
        basis="raw",
        criterion="gradient",
        curvature="token",
        ema_decay=0.8,
        damping=0.01,
        recovery_strength=1.0,
        recovery_side="B",
        gradient_cap=None,
        moments=None,
        target_sparsity=None,
        target_rank=2,
        schedule="cubic",
        begin=0.2,
        end=0.8,
        every_steps=2,
        allocation="uniform",
        min_rank=0,
        round_to=None,
        rate_growth=0.0,
    )
    return lambda **overrides: replace(base, **overrides)


@cache
def _data(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(4, 5, 6, dtype=torch.float64, generator=generator)
    return x, torch.sin(x[..., :3] * 2)


@pytest.fixture
def data() -> Callable[[int], tuple[Tensor, Tensor]]:
    """Inputs and targets of a step, the same tensors every time."""
    return _data


@pytest.fixture
def train_step(data) -> Callable[..., Event | None]:
    """One step of the loop: backward of a summed loss, mean gradients, observe, optimizer, step."""

    def run(model: nn.Module, pruner: Pruner, optimizer: torch.optim.Optimizer, step: int) -> Event | None:
        x, y = data(step)
        (model(x) - y).square().sum().backward()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad /= y.numel()
        pruner.observe(y.numel())
        optimizer.step()
        pruner.enforce()
        event = pruner.step(step, step / NUM_STEPS, optimizer)
        optimizer.zero_grad()
        return event

    return run


@pytest.fixture
def make_optimizer() -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
