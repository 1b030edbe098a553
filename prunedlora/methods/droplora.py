"""DropLoRA (https://arxiv.org/abs/2508.17337): dropout on the rank dimension, between the two factors, while training.

    y = W0 x + s B drop_p(A x),    survivors scaled by 1 / (1 − p)

The identity at evaluation, and so plain LoRA when merged or exported.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.methods.method import OwnGroup
from prunedlora.pruning.pruner import Event
from prunedlora.registry import register
from prunedlora.seeds import generator


@dataclass(frozen=True)
class DropLoraSettings:
    probability: float
    """Share that is dropped, in (0, 1)."""
    granularity: Literal["element", "rank"]
    """element: independent per token and component, from torch's global generator, which the loop seeds. rank: one draw
    per layer and optimizer step, shared by all tokens, micro-batches and workers."""


def rank_mask(rank: int, probability: float, seed: int, step: int, layer: int) -> Tensor:
    """(rank,) of 0 and 1 / (1 − p): which components of a layer live during a step. The same on every worker."""
    kept = torch.rand(rank, generator=generator(seed, "droplora", step, layer)) >= probability
    return kept / (1 - probability)


@register("method", "droplora")
class DropLora:
    """A fixed-rank adapter whose components are dropped at random while it trains. `seed` initialises A."""

    section: ClassVar[str | None] = "droplora"
    settings_type: ClassVar[type | None] = DropLoraSettings
    changes_rank: ClassVar[bool] = False
    rate_factor: float = 1.0

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: DropLoraSettings) -> None:
        self.adapter = adapter
        self.seed = seed
        self.settings = settings
        self._num_done = 0
        self._handles: list[RemovableHandle] = []

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with the adapter, dropout in place. Raises TargetError for modules that do not fit the model."""
        adapted: nn.Module = attach(model, self.adapter, adapter_name, self.seed)
        self._handles = [
            layer.lora_A.register_forward_hook(self._drop(index))
            for index, layer in enumerate(adapted_layers(adapted, adapter_name))
        ]
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
        """Never an event; the next step draws anew."""
        self._num_done = step
        return None

    def truncations(self) -> Iterator[int]:
        """None."""
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        """The number of steps done, which seeds the next draw."""
        return {"num_done": torch.tensor(self._num_done)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`. Raises ValueError for a state of another method."""
        if state.keys() != {"num_done"}:
            raise ValueError(f"method 'droplora' keeps num_done, but got {', '.join(sorted(state)) or 'nothing'}")
        self._num_done = int(state["num_done"])

    def close(self) -> None:
        """Removes the dropout."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def detach(self, model: nn.Module) -> None:
        """Takes the adapter off."""
        detach(model)

    def _drop(self, index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        settings = self.settings

        def hook(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not module.training:
                return None
            if settings.granularity == "element":
                return nn.functional.dropout(output, settings.probability)
            mask = rank_mask(output.shape[-1], settings.probability, self.seed, self._num_done, index)
            return output * mask.to(output)

        return hook
