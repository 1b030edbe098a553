"""LoRA (https://arxiv.org/abs/2106.09685): the adapter keeps its rank; the method that does nothing while training.

Registered as rslora too (https://arxiv.org/abs/2312.03732): the same, with the scaling alpha / sqrt(rank), which the
configuration spells out in `adapter.use_rslora`.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.methods.method import OwnGroup
from prunedlora.pruning.pruner import Event
from prunedlora.registry import register


@register("method", "rslora")
@register("method", "lora")
class Lora:
    """A fixed-rank adapter. `seed` initialises A."""

    section: ClassVar[str | None] = None
    settings_type: ClassVar[type | None] = None
    changes_rank: ClassVar[bool] = False
    rate_factor: float = 1.0

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: None) -> None:
        self.adapter = adapter
        self.seed = seed

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with the adapter. Raises TargetError for modules that do not fit the model."""
        adapted: nn.Module = attach(model, self.adapter, adapter_name, self.seed)
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
        """None."""
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        """Empty: nothing is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError for a state that is not empty: it belongs to another method."""
        if state:
            raise ValueError(f"method 'lora' keeps no state, but got {', '.join(sorted(state))}")

    def close(self) -> None:
        """Nothing to remove."""

    def detach(self, model: nn.Module) -> None:
        """Takes the adapter off."""
        detach(model)
