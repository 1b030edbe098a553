"""vLLM: one `lora_alpha / r` for all (1 here), or, newer, the patterns; what is absent is a zero slice of its slot."""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.served_slot import SERVED_SLOTS, served_slot
from prunedlora.servers.treatment import Refused, Treatment, as_trained


def treat(shape: AdapterShape) -> Treatment:
    if shape.kind == Kind.MERGED:
        return as_trained(shape)
    if shape.kind == Kind.GGUF:
        return Refused("reads no GGUF adapters")
    if shape.head_params:
        return Refused("takes no modules_to_save")
    if served_slot(shape.rank) is None:
        return Refused(f"its largest slot holds rank {SERVED_SLOTS[-1]}, and the adapter has {shape.rank}")
    return as_trained(shape)
