"""LoRAX, and TGI, which has its code: one type of projection after the other, each stacked over all blocks.

- A type that one block lacks is dropped whole; the log says so at most.
- Ranks are padded for the kernels, to 8 up to 8 and to a multiple of 16 above. A type whose padded ranks differ
  between blocks ends in an error (`torch.stack`); types may differ from each other.
- A type's padded rank then replaces `r`, so that the scaling of the next type is `lora_alpha` over the padded rank of
  the type before.
- Kernels up to 128 exist for some ranks alone (RANKS); above, layers are multiplied one by one.
- Modules that were trained whole are dropped without a word: only A and B of known layers are looked for.

https://github.com/predibase/lorax/blob/main/server/lorax_server/adapters/lora.py (LoraWeights.load), utils/punica.py
(pad_rank), models/flash_llama.py (ADAPTER_LAYERS), server/punica_kernels/punica_kernels/sgmv_flashinfer/sgmv_config.h
https://github.com/huggingface/text-generation-inference/blob/main/server/text_generation_server/adapters/lora.py
Read 2026-11; no server of either has been run.
"""

from prunedlora.servers.adapter_shape import AdapterShape
from prunedlora.servers.decoder_layers import PROJECTIONS, projection
from prunedlora.servers.layer_types import layer_type
from prunedlora.servers.treatment import NotKnown, Refused, Treatment, no_peft_folder, not_looked_at, without_head

BLOCK = 16
"""Ranks above the first are multiples of it."""
RANKS = (8, 16, 32, 64, 96, 128)
"""That there are kernels for."""


def padded(rank: int) -> int:
    """To what a rank is padded on one GPU."""
    return RANKS[0] if rank <= RANKS[0] else -(-rank // BLOCK) * BLOCK


def treat(shape: AdapterShape) -> Treatment:
    if (other := no_peft_folder(shape)) is not None:
        return other
    if (unknown := not_looked_at(shape, PROJECTIONS)) is not None:
        return unknown
    if (absent := shape.absent) is None:
        return NotKnown("which layers the base model has is not on record")
    dropped = {layer_type(name) for name in absent}
    by_type, r = dict.fromkeys(map(layer_type, shape.ranks), 0.0), shape.rank
    for kind in sorted(by_type.keys() - dropped, key=lambda name: PROJECTIONS.index(projection(name))):
        ranks = {padded(rank) for name, rank in shape.ranks.items() if layer_type(name) == kind}
        if len(ranks) > 1:
            return Refused(
                f"fails where ranks of one projection differ between blocks, as those of {projection(kind)} do"
            )
        by_type[kind], r = shape.rank / r, next(iter(ranks))
        if r <= RANKS[-1] and r not in RANKS:
            return Refused(f"has no kernel for rank {r}, but for {', '.join(map(str, RANKS))}")
    return without_head(shape, {name: by_type[layer_type(name)] for name in shape.ranks})
