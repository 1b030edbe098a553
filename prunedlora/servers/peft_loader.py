"""PEFT, with which TRL and transformers load adapters: reads the patterns, leaves absent layers alone."""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import Refused, Treatment, as_trained


def treat(shape: AdapterShape) -> Treatment:
    return Refused("reads no GGUF adapters") if shape.kind == Kind.GGUF else as_trained(shape)
