"""DropLoRA (https://arxiv.org/abs/2508.17337): dropout on the rank dimension, between the two factors, while training.

    y = W0 x + s B drop_p(A x),    survivors scaled by 1 / (1 − p)

The identity at evaluation, and so plain LoRA when merged or exported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.methods.method import Method
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
class DropLora(Method):
    """A fixed-rank adapter whose components are dropped at random while it trains."""

    section = "droplora"
    settings_type = DropLoraSettings
    settings: DropLoraSettings

    _num_done = 0

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with the adapter, dropout in place. Raises TargetError for modules that do not fit the model."""
        adapted = super().attach(model, adapter_name)
        self._handles = [
            layer.lora_A.register_forward_hook(self._drop(index)) for index, layer in enumerate(self._layers)
        ]
        return adapted

    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """Never an event; the next step draws anew."""
        self._num_done = step
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """The number of steps done, which seeds the next draw."""
        return {"num_done": torch.tensor(self._num_done)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`. Raises ValueError for a state of another method."""
        if state.keys() != {"num_done"}:
            raise ValueError(f"method 'droplora' keeps num_done, but got {', '.join(sorted(state)) or 'nothing'}")
        self._num_done = int(state["num_done"])

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
