"""The (A, B) pairs of an adapter, one AdaptedLayer per adapted linear module."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.nn import Parameter

Side = Literal["A", "B"]
"""One of the two factors."""


@dataclass(frozen=True)
class AdaptedLayer:
    """One adapted linear layer `y = W0 x + scaling * B A x`.

    Factors are looked up in the module at each access, so the object stays valid when `shrink` replaces them.
    """

    name: str
    """Full name of the module inside the base model, "bert.encoder.layer.0.attention.self.query" for example."""
    module: Any
    """PEFT's LoraLayer (untyped upstream). https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/layer.py"""
    adapter_name: str

    @property
    def lora_A(self) -> nn.Linear:
        """Linear module that maps d_in to r."""
        module: nn.Linear = self.module.lora_A[self.adapter_name]
        return module

    @property
    def lora_B(self) -> nn.Linear:
        """Linear module that maps r to d_out."""
        module: nn.Linear = self.module.lora_B[self.adapter_name]
        return module

    @property
    def A(self) -> Parameter:
        """Factor A, shape (r, d_in)."""
        return cast(Parameter, self.lora_A.weight)

    @property
    def B(self) -> Parameter:
        """Factor B, shape (d_out, r)."""
        return cast(Parameter, self.lora_B.weight)

    @property
    def gate(self) -> Parameter | None:
        """Gates c (r,) of `y = W0 x + scaling * B (c * A x)`; None for an adapter without (adapters/gates.py)."""
        return cast(Parameter | None, getattr(self.lora_A, "gate", None))

    @property
    def rank(self) -> int:
        """Number of components."""
        return self.A.shape[0]

    @property
    def width(self) -> int:
        """Parameters of one component, d_in + d_out."""
        return self.lora_A.in_features + self.lora_B.out_features

    @property
    def scaling(self) -> float:
        """The factor s on B A x; fixed when the adapter is attached."""
        return float(self.module.scaling[self.adapter_name])


def adapted_layers(model: nn.Module, adapter_name: str) -> list[AdaptedLayer]:
    """All LoRA layers that carry `adapter_name`, in module order of the base model; `model` is what `attach` returned.

    None for a model without an adapter, and for AdaLoRA, whose layers are of another kind: `plain_layers` has both.
    """
    return [
        AdaptedLayer(name, module, adapter_name)
        for name, module in _base(model).named_modules()
        if adapter_name in getattr(module, "lora_A", ()) and isinstance(module.lora_A, nn.ModuleDict)
    ]


def wrapped_heads(model: nn.Module) -> dict[str, Any]:
    """Full name in the base model → PEFT's wrapper of a module trained whole; `model` is what `attach` returned.

    The wrapper holds `original_module` and, by adapter name, the trained copies `modules_to_save`.
    """
    return {name: module for name, module in _base(model).named_modules() if isinstance(module, ModulesToSaveWrapper)}


def _base(model: nn.Module) -> nn.Module:
    return model.get_base_model() if isinstance(model, PeftModel) else model
