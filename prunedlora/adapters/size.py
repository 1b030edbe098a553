"""The size of an adapter in its three measures: parameters, bytes, and the slot that a server needs for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from prunedlora.adapters.layers import wrapped_heads
from prunedlora.adapters.plain import plain_layers

SERVED_SLOTS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM pads an adapter to (max_lora_rank). https://docs.vllm.ai/en/latest/features/lora.html"""


@dataclass(frozen=True)
class AdapterSize:
    """Size of an adapter as it is now."""

    ranks: dict[str, int]
    """Layer name → rank, rank 0 included."""
    adapter_params: int
    """Numbers in A and B."""
    adapter_bytes: int
    """Bytes of A and B as stored."""
    head_params: int
    """Numbers in the modules saved with the adapter."""
    max_rank: int
    served_slot: int | None
    """Smallest rank that a server offers for this adapter; None when max_rank is above all of them."""


def measure(model: nn.Module, adapter_name: str) -> AdapterSize:
    """Size of the adapter on `model` (what `attach` returned)."""
    layers = plain_layers(model, adapter_name)
    factors = [factor for layer in layers for factor in (layer.A, layer.B)]
    max_rank = max(layer.rank for layer in layers)
    heads = [head.modules_to_save[adapter_name] for head in wrapped_heads(model).values()]
    return AdapterSize(
        ranks={layer.name: layer.rank for layer in layers},
        adapter_params=sum(factor.numel() for factor in factors),
        adapter_bytes=sum(factor.numel() * factor.element_size() for factor in factors),
        head_params=sum(parameter.numel() for head in heads for parameter in head.parameters()),
        max_rank=max_rank,
        served_slot=next((slot for slot in SERVED_SLOTS if slot >= max_rank), None),
    )


def measure_full(model: nn.Module, head_modules: Sequence[str]) -> AdapterSize:
    """What full fine-tuning changes, on the same scale: every weight outside of the head counts.

    `head_modules`: full names. `max_rank` is the rank that no update of a weight matrix can exceed; no server holds it
    as an adapter.
    """
    in_head = tuple(f"{name}." for name in head_modules)
    body = [parameter for name, parameter in model.named_parameters() if not name.startswith(in_head)]
    head = [parameter for name, parameter in model.named_parameters() if name.startswith(in_head)]
    return AdapterSize(
        ranks={},
        adapter_params=sum(parameter.numel() for parameter in body),
        adapter_bytes=sum(parameter.numel() * parameter.element_size() for parameter in body),
        head_params=sum(parameter.numel() for parameter in head),
        max_rank=max(min(parameter.shape) for parameter in body if parameter.dim() > 1),
        served_slot=None,
    )
