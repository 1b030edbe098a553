"""SGLang: refuses patterns that change a rank, and stacks the projections that it fuses, block by block."""

from prunedlora.servers.absent_layers import fused_with
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import NotKnown, Refused, Treatment, as_trained


def treat(shape: AdapterShape) -> Treatment:
    if shape.kind == Kind.MERGED:
        return as_trained(shape)
    if shape.kind == Kind.GGUF:
        return Refused("reads no GGUF adapters")
    if shape.head_params:
        return Refused("takes no head")
    if not shape.is_equal:
        return Refused("refuses unequal ranks")
    if (absent := shape.absent) is None:
        return NotKnown("which layers the base model has is not on record")
    if any(other in shape.ranks for name in absent for other in fused_with(name)):
        return Refused("fails where a block has q, k and v, or gate and up, in part")
    return as_trained(shape)
