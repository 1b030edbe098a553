"""Layers that an adapter lacks and a server expects: those that its adapted types have in the other blocks.

A type of layer is a module's name with its numbers left out, so that a stack of blocks has each of its types once:
`model.layers.*.self_attn.q_proj`. Modules outside of all blocks (embeddings, a language model's head, a pooler) are
types of one layer, which lack nothing.
"""

from collections.abc import Collection

from prunedlora.servers.layer_types import layer_type
from prunedlora.servers.served_slot import Widths

FUSED = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("gate_proj", "up_proj"))
"""Projections that servers put side by side in one matrix, by the last part of their names: SGLang fails on a block
that has one of them and not the others.
https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/lora/lora.py (initialize_weights)"""


def absent_layers(present: Collection[str], widths: Widths) -> dict[str, tuple[int, int]]:
    """Layers to add, (in, out) by full name in the order of `widths`, so that every type that is present, and what is
    fused with it, is there in all blocks of its stack.

    `present`: full names of the layers that the adapter has; `widths`: of every linear layer of the base model. All
    blocks of a stack count, also those that `layers_to_transform` left out: LoRAX and TGI walk through all of them, and
    drop the type where one lacks it. PEFT, vLLM and llama.cpp need none of this, and SGLang only what is fused.
    """
    types = {sibling for name in present for sibling in fused_with(layer_type(name))}
    return {name: shape for name, shape in widths.items() if name not in present and layer_type(name) in types}


def fused_with(name: str) -> list[str]:
    """A layer (or type of layers) and those of its block that servers fuse it with, be they in the model or not."""
    block, dot, last = name.rpartition(".")
    group = next((together for together in FUSED if last in together), (last,))
    return [f"{block}{dot}{each}" for each in group]
