"""Full fine-tuning: every weight of a copy of the base model trains. No adapter; the upper reference, where it fits."""

import copy
from dataclasses import dataclass

from torch import nn

from prunedlora.methods.method import Method
from prunedlora.registry import register


@dataclass(frozen=True)
class FullSettings:
    head_modules: list[str]
    """Modules with the head's learning rate, counted beside the rest."""


@register("method", "full")
class Full(Method):
    """A float32 copy of the base model with all its weights trained; the base itself is not touched."""

    section = "full"
    settings_type = FullSettings

    def __init__(self, adapter: None, seed: int, num_steps: int, settings: FullSettings) -> None:
        self.settings = settings

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The copy. In float32 whatever the base is: steps of fine-tuning vanish in half precision."""
        return copy.deepcopy(model).float().requires_grad_(True)

    def detach(self, model: nn.Module) -> None:
        """Nothing to do: the base model was never changed."""
