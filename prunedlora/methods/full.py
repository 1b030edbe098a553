"""Full fine-tuning: every weight of a copy of the base model trains. No adapter; the upper reference, where it fits."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.methods.method import OwnGroup
from prunedlora.pruning.pruner import Event
from prunedlora.registry import register


@dataclass(frozen=True)
class FullSettings:
    head_modules: list[str]
    """Modules with the head's learning rate, counted beside the rest."""


@register("method", "full")
class Full:
    """A float32 copy of the base model with all its weights trained; the base itself is not touched."""

    section: ClassVar[str | None] = "full"
    settings_type: ClassVar[type | None] = FullSettings
    changes_rank: ClassVar[bool] = False
    rate_factor: float = 1.0

    def __init__(self, adapter: None, seed: int, num_steps: int, settings: FullSettings) -> None:
        self.settings = settings

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The copy. In float32 whatever the base is: steps of fine-tuning vanish in half precision."""
        return copy.deepcopy(model).float().requires_grad_(True)

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
        """None."""
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        """Empty: nothing is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError for a state that is not empty: it belongs to another method."""
        if state:
            raise ValueError(f"method 'full' keeps no state, but got {', '.join(sorted(state))}")

    def close(self) -> None:
        """Nothing to remove."""

    def detach(self, model: nn.Module) -> None:
        """Nothing to do: the base model was never changed."""
