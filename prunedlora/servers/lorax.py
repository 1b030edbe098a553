"""LoRAX, and TGI: stack a type's layers over all blocks, drop the type where one is absent, and pad ranks to a block of
their kernels, from which the scaling is worked out."""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.layer_types import layer_type
from prunedlora.servers.treatment import Applied, NotKnown, Refused, Treatment, as_trained

BLOCK = 16
"""Ranks are multiples of it."""


def treat(shape: AdapterShape) -> Treatment:
    if shape.kind == Kind.MERGED:
        return as_trained(shape)
    if shape.kind == Kind.GGUF:
        return Refused("reads no GGUF adapters")
    if shape.head_params:
        return NotKnown("nobody has tried one with a head")
    if not shape.is_equal:
        return Refused("fails at unequal ranks")
    if shape.rank % BLOCK:
        return Refused(f"needs a rank that is a multiple of {BLOCK}")
    if (absent := shape.absent) is None:
        return NotKnown("which layers the base model has is not on record")
    dropped = {layer_type(name) for name in absent}
    return Applied({name: float(layer_type(name) not in dropped) for name in shape.ranks})
