"""llama.cpp, and Ollama and LM Studio, which are built on it: each tensor is scaled by `adapter.lora.alpha` of its GGUF
file over its own rank, or by 1 where that is 0.

- A PEFT folder is converted by its user with `convert_lora_to_gguf.py`, which writes `lora_alpha` of the configuration
  (our largest rank) there and reads no patterns: a layer of smaller rank comes out largest / own times too strong, and
  nothing says so. Tensors that are neither A nor B (a trained head) end the conversion.
  https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py (get_tensors)
- `export --gguf` writes 0, so that every rank is right.
  https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.h (get_scale)
- A layer that the adapter lacks is left alone.

Seen too: tests/servers/llama_cpp_logits.json.
"""

from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind
from prunedlora.servers.decoder_layers import PROJECTIONS, STACKED_PROJECTIONS
from prunedlora.servers.gguf_types import GGUF_MODEL_TYPES
from prunedlora.servers.treatment import Applied, NotKnown, Refused, Treatment, as_trained, merged, not_looked_at

CONVERTED = "llama.cpp's convert_lora_to_gguf.py has made a GGUF file of it"


def treat(shape: AdapterShape) -> Treatment:
    if shape.kind == Kind.MERGED:
        return merged(shape)
    if shape.head_params:
        return Refused("takes no head")
    if shape.kind == Kind.GGUF:
        if shape.model_type is None:
            return NotKnown("the base model's type is not on record, as before 0.9; export --gguf looks it up")
        if shape.model_type not in GGUF_MODEL_TYPES:
            return Refused(f"our GGUF files are proven for {', '.join(sorted(GGUF_MODEL_TYPES))} alone")
        return not_looked_at(shape, (*PROJECTIONS, *STACKED_PROJECTIONS)) or as_trained(shape)
    if shape.base == Base.GGUF:
        return Refused("its converter needs the base model's own config.json, which a GGUF base has not")
    factors = {name: shape.rank / rank for name, rank in shape.ranks.items()}
    return not_looked_at(shape, PROJECTIONS) or Applied(factors, CONVERTED)
