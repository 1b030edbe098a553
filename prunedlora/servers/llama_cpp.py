"""llama.cpp, and Ollama and LM Studio, which are built on it: each tensor is scaled by `lora_alpha` over its own rank.

https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.h (get_scale)
"""

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import Applied, Refused, Treatment, as_trained


def treat(shape: AdapterShape) -> Treatment:
    if shape.head_params and shape.kind != Kind.MERGED:
        return Refused("takes no head")
    if shape.kind in (Kind.GGUF, Kind.MERGED):  # alpha 0 in the file: every tensor as it is
        return as_trained(shape)
    return Applied({name: shape.rank / rank for name, rank in shape.ranks.items()})
