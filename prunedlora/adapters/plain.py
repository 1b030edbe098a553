"""What any adapter amounts to: plain factors per layer, `y = W0 x + B A x`, everything that scales folded into B."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from prunedlora.adapters.layers import AdaptedLayer, adapted_layers


@dataclass(frozen=True)
class PlainLayer:
    """One adapted linear layer as it is exported and served."""

    name: str
    """Full name of the module inside the base model."""
    A: Tensor
    """(r, d_in)"""
    B: Tensor
    """(d_out, r), scaling (and gates, and singular values) folded in."""
    is_transposed: bool
    """Whether the base layer keeps its weight as (d_in, d_out) (GPT-2's Conv1D)."""

    @property
    def rank(self) -> int:
        """Number of components."""
        return self.A.shape[0]


def plain_layers(model: nn.Module, adapter_name: str) -> list[PlainLayer]:
    """Every layer that carries `adapter_name`, in module order; layers of rank 0 are among them.

    LoRA: B · s. With gates c (L1RA): B · c · s. AdaLoRA, whose masked components have E = 0 and are dropped:
    B · E · s / (ranknum + 1e-5), as PEFT scales it in its forward.
    """
    layers = [_from_lora(layer) for layer in adapted_layers(model, adapter_name)]
    return layers or [
        _from_adalora(name, module, adapter_name) for name, module in adalora_modules(model, adapter_name).items()
    ]


def live_part(layers: Sequence[PlainLayer], live: Mapping[str, Tensor]) -> list[PlainLayer]:
    """`layers` without the components that are held at zero; `live`: name → indices of the others, all layers."""
    return [
        replace(
            layer, A=layer.A[live[layer.name].to(layer.A.device)], B=layer.B[:, live[layer.name].to(layer.B.device)]
        )
        for layer in layers
    ]


def adapted_names(model: nn.Module, adapter_name: str) -> list[str]:
    """The names of `plain_layers`, in its order: known of a model without its weights too."""
    lora = [layer.name for layer in adapted_layers(model, adapter_name)]
    return lora or list(adalora_modules(model, adapter_name))


def start_ranks(model: nn.Module, adapter_name: str) -> list[tuple[int, int]]:
    """(rank, parameters of one component) of every layer as it is attached, in the order of `adapted_names`: known of a
    model without its weights too, of AdaLoRA with triplets that are masked later."""
    lora = [(layer.rank, layer.width) for layer in adapted_layers(model, adapter_name)]
    pairs = [
        (each.lora_A[adapter_name], each.lora_B[adapter_name]) for each in adalora_modules(model, adapter_name).values()
    ]
    return lora or [(A.shape[0], A.shape[1] + B.shape[0]) for A, B in pairs]


def adalora_modules(model: nn.Module, adapter_name: str) -> dict[str, Any]:
    """Full name in the base model → PEFT's module of singular triplets, in module order; empty for other adapters."""
    if not hasattr(model, "get_base_model"):
        return {}
    modules = model.get_base_model().named_modules()  # type: ignore[operator]
    return {name: module for name, module in modules if adapter_name in getattr(module, "lora_E", ())}


def _from_lora(layer: AdaptedLayer) -> PlainLayer:
    A, B = layer.A.detach(), layer.B.detach()
    if layer.gate is not None:
        B = B * layer.gate.detach()
    return PlainLayer(layer.name, A, B * layer.scaling, bool(layer.module.fan_in_fan_out))


def _from_adalora(name: str, module: Any, adapter_name: str) -> PlainLayer:
    A, B, E = (getattr(module, f"lora_{factor}")[adapter_name].detach() for factor in "ABE")
    alive = E.flatten() != 0
    scaling = module.scaling[adapter_name] / (module.ranknum[adapter_name].detach() + 1e-5)
    transposed = bool(getattr(module, "fan_in_fan_out", False))  # PEFT's AdaLoRA layers over 4-bit weights lack it
    return PlainLayer(name, A[alive], B[:, alive] * E[alive].T * scaling, transposed)
