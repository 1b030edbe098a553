"""Layers that the rules speak of: linear projections in the blocks of a decoder, by the names that Llama gave them.

What servers make of others (encoders, experts, towers for images, transposed layers, output embeddings) depends on the
class of the model that they have for it, which nobody has looked at.
"""

import re
from collections.abc import Collection, Iterable

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""In the order in which LoRAX and TGI walk through them."""
STACKED_PROJECTIONS = ("qkv_proj", "gate_up_proj")
"""Those of models that keep q, k and v, or gate and up, in one matrix (Phi-3)."""

_IN_BLOCK = re.compile(r"(?:model\.)?layers\.\d+\.(?:\w+\.)?(\w+)")


def strange_layers(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Those that are no projection of `known` in a block, in their order."""
    matches = ((name, _IN_BLOCK.fullmatch(name)) for name in names)
    return [name for name, match in matches if match is None or match[1] not in known]


def projection(name: str) -> str:
    """The last part of a layer's name: "q_proj"."""
    return name.rpartition(".")[2]


def block(name: str) -> str:
    """What the projections of one attention, or of one MLP, have in common: the name without its last part."""
    return name.rpartition(".")[0]
