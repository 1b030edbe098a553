"""The size of an adapter in its three measures: parameters, bytes, and the slot that a server needs for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import nn
from transformers.pytorch_utils import Conv1D

from prunedlora.adapters.layers import wrapped_heads
from prunedlora.adapters.plain import plain_layers
from prunedlora.adapters.targets import LINEAR, stacked_weights
from prunedlora.servers.served_slot import HALF_BYTES, served_slot, slot_bytes


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
    served_slot_bytes: int | None
    """Bytes of that slot (served_slot.py) in half precision, without embeddings that are not adapted; None without a
    slot, or where `served_layers` cannot tell."""


@dataclass(frozen=True)
class ServedLayers:
    """Modules of a base model that a LoRA server keeps a pair of factors for, by full name: (in, out)."""

    linear: dict[str, tuple[int, int]]
    """Every linear layer outside of the head, and an embedding that is adapted."""
    embeddings: dict[str, tuple[int, int]]
    """Input and output embedding: some servers' model classes adapt them (served_slot.py)."""


def served_layers(model: nn.Module) -> ServedLayers | None:
    """What a server holds slots for, on a model with an adapter (`attach`).

    None for a model that keeps several layers' weights in one tensor (the experts of a mixture): what a server holds
    for these is another layout, which is not counted here.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    heads = tuple(f"{name}." for name in wrapped_heads(model))
    own = [(name, module) for name, module in base.named_modules() if name and not f"{name}.".startswith(heads)]
    if has_stacked_layers(nn.ModuleList(module for _, module in own)):
        return None
    embeddings = [base.get_input_embeddings(), base.get_output_embeddings()]
    linear, others = {}, {}
    for name, module in own:
        if ".lora_" in name or name.endswith(".base_layer"):
            continue
        layer = getattr(module, "base_layer", module)
        if layer is module and any(module is embedding for embedding in embeddings):
            others[name] = _widths(layer)
        elif isinstance(layer, LINEAR):
            linear[name] = _widths(layer)
    return ServedLayers(linear, others)


def has_stacked_layers(model: nn.Module) -> bool:
    """Whether a module of the model holds the weights of several linear layers as one tensor (layers, …)."""
    return bool(stacked_weights(model))


def _widths(layer: Any) -> tuple[int, int]:
    """(in, out); the attributes, since 4-bit weights have another shape."""
    if isinstance(layer, Conv1D):
        return layer.nx, layer.nf
    if isinstance(layer, nn.Embedding):
        return layer.num_embeddings, layer.embedding_dim
    return layer.in_features, layer.out_features


def measure(model: nn.Module, adapter_name: str) -> AdapterSize:
    """Size of the adapter on `model` (what `attach` returned)."""
    layers = plain_layers(model, adapter_name)
    factors = [factor for layer in layers for factor in (layer.A, layer.B)]
    max_rank = max(layer.rank for layer in layers)
    slot, served = served_slot(max_rank), served_layers(model)
    heads = [head.modules_to_save[adapter_name] for head in wrapped_heads(model).values()]
    return AdapterSize(
        ranks={layer.name: layer.rank for layer in layers},
        adapter_params=sum(factor.numel() for factor in factors),
        adapter_bytes=sum(factor.numel() * factor.element_size() for factor in factors),
        head_params=sum(parameter.numel() for head in heads for parameter in head.parameters()),
        max_rank=max_rank,
        served_slot=slot,
        served_slot_bytes=None if slot is None or served is None else slot_bytes(served.linear, slot, HALF_BYTES),
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
        served_slot_bytes=None,
    )
