"""What one adapter takes of a server's memory, in the form that the server is given."""

from prunedlora.servers import lorax
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.layer_types import layer_type
from prunedlora.servers.served_slot import HALF_BYTES, served_slot, slot_bytes


def server_bytes(shape: AdapterShape, name: str, number_bytes: int = HALF_BYTES) -> int | None:
    """Bytes of A and B of one adapter as the server called `name` keeps them, `number_bytes` each, for the whole model
    (no tensor parallelism); None where that is not known: without the base model's widths, of a merged model, and of
    servers that nobody has looked at. Raises KeyError for a name without a rule.

    - peft: its tensors as they are.
    - vllm: a slot of `--max-lora-rank` for every linear layer, adapted or not (served_slot.py). None above all slots.
    - sglang: a slot of `--max-lora-rank` (the adapter's rank, if it is the largest) for the projections that it adapts
      and those that are fused with them, in all blocks. There are `--max-loras-per-batch` of them, whatever is loaded.
      https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/lora/mem_pool.py (get_lora_A_shape)
    - llama.cpp: its tensors as they are in the GGUF file; of our own and of a converted one `number_bytes` is 4 unless
      another type was asked for.
      https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.cpp (llama_adapter_lora_init_impl)
    - lorax: the types that it does not drop, at padded ranks (lorax.py).
    - tensorrt-llm: None: pages of a cache whose size is set at the start.
    - mlx: None: it takes merged models alone.
    """
    if shape.widths is None or shape.kind == Kind.MERGED:
        return None
    match name:
        case "peft" | "llama.cpp":
            numbers = shape.num_params
        case "vllm":
            slot = served_slot(shape.rank)
            return None if slot is None else slot_bytes(shape.widths, slot, number_bytes)
        case "sglang":
            full = shape.uniform()
            numbers = None if full is None else full.num_params
        case "lorax":
            dropped = {layer_type(absent) for absent in shape.absent or ()}
            kept = {layer: rank for layer, rank in shape.ranks.items() if layer_type(layer) not in dropped}
            numbers = sum(lorax.padded(rank) * sum(shape.widths[layer]) for layer, rank in kept.items())
        case "tensorrt-llm" | "mlx":
            return None
        case _:
            raise KeyError(f"there is no rule for a server called {name!r}")
    return None if numbers is None else numbers * number_bytes
