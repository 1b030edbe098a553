"""TensorRT-LLM: reads the ranks of the tensors (PR 2366)."""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import NotKnown, Refused, Treatment, as_trained


def treat(shape: AdapterShape) -> Treatment:
    if shape.kind == Kind.MERGED:
        return as_trained(shape)
    if shape.kind == Kind.GGUF:
        return Refused("reads no GGUF adapters")
    if shape.head_params or shape.absent is None or shape.absent:
        return NotKnown("nobody has tried one with a head, or that lacks layers")
    return as_trained(shape)
