"""SVD truncation: train LoRA at a large rank, then cut B A down to each smaller rank, without further training.

Every adapter costs nothing but its evaluation: the free curve that a method which prunes while training must beat.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.adapters.shrink import set_factors
from prunedlora.methods.method import OwnGroup
from prunedlora.pruning.pruner import Event
from prunedlora.registry import register


@dataclass(frozen=True)
class SvdSettings:
    ranks: list[int]
    """Ranks to truncate to, falling."""


def truncate(A: Tensor, B: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors (rank, d_in), (d_out, rank) of the best approximation of B A in the Frobenius norm (Eckart-Young).

    `A` (r, d_in), `B` (d_out, r). The singular values are shared evenly between the factors. Computed in float64 from
    r × r cores: with Aᵀ = Q_A R_A and B = Q_B R_B, B A = Q_B (R_B R_Aᵀ) Q_Aᵀ.
    """
    Q_A, R_A = torch.linalg.qr(A.double().mT)
    Q_B, R_B = torch.linalg.qr(B.double())
    U, S, Vh = torch.linalg.svd(R_B @ R_A.mT)
    root = S[:rank].sqrt()
    return (root[:, None] * (Vh[:rank] @ Q_A.mT)).to(A.dtype), (Q_B @ U[:, :rank] * root).to(B.dtype)


@register("method", "svd")
class Svd:
    """A fixed-rank adapter that is truncated after its training. `seed` initialises A."""

    section: ClassVar[str | None] = "svd"
    settings_type: ClassVar[type | None] = SvdSettings
    changes_rank: ClassVar[bool] = False
    rate_factor: float = 1.0

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: SvdSettings) -> None:
        self.adapter = adapter
        self.seed = seed
        self.settings = settings
        self._layers: list[AdaptedLayer] = []

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with the adapter. Raises TargetError for modules that do not fit the model."""
        adapted: nn.Module = attach(model, self.adapter, adapter_name, self.seed)
        self._layers = adapted_layers(adapted, adapter_name)
        return adapted

    def own_groups(self) -> list[OwnGroup]:
        """None."""
        return []

    def statistics(self) -> list[Tensor]:
        """Nothing to sum."""
        return []

    def observe(self, progress: float) -> None:
        """Nothing to see."""

    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """Never an event."""
        return None

    def truncations(self) -> Iterator[int]:
        """One rank after the other; each truncates what the one before left, which is the same as from the start."""
        for rank in self.settings.ranks:
            for layer in self._layers:
                set_factors(layer, *truncate(layer.A.detach(), layer.B.detach(), rank), None)
            yield rank

    def state_dict(self) -> dict[str, Tensor]:
        """Empty: nothing is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError for a state that is not empty: it belongs to another method."""
        if state:
            raise ValueError(f"method 'svd' keeps no state, but got {', '.join(sorted(state))}")

    def close(self) -> None:
        """Nothing to remove."""

    def detach(self, model: nn.Module) -> None:
        """Takes the adapter off."""
        detach(model)
