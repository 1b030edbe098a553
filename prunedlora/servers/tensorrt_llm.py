"""TensorRT-LLM: each tensor is scaled by `lora_alpha` over its own rank, as in llama.cpp.

- Patterns are not read: a layer of smaller rank comes out largest / own times too strong. In CUDA graphs, which are
  the default for decoding, the first layer's rank is taken for all of the adapter's, so that unequal ones are wrong in
  another way there.
- What a block lacks is left alone in the PyTorch backend (a null pointer, or a zero part of q, k, v); where q, k or v
  is adapted in no block and another of them is, it makes up zeros of the hidden size, which grouped heads do not have.
- Other tensors than A and B (a trained head) end the load, but lm_head and embed_tokens.
- Kernels for CUDA graphs are written for ranks from 8; a note there says that smaller ones may not align.

https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/_torch/peft/lora/manager.py (load_from_hf), loaders.py
(iterate_hf_lora), cuda_graph_lora_params.py (update_weight_pointers), layer.py (_forward_eager_mode)
Ranks of the tensors are read since https://github.com/NVIDIA/TensorRT-LLM/pull/2366, with "the right scaling factors"
for adapters whose alpha is one for all. Read 2026-11; no server has been run.
"""

from prunedlora.servers.absent_layers import fused_with
from prunedlora.servers.adapter_shape import AdapterShape
from prunedlora.servers.decoder_layers import PROJECTIONS, projection
from prunedlora.servers.treatment import Applied, NotKnown, Refused, Treatment, no_peft_folder, not_looked_at

READ_WHOLE = ("lm_head", "embed_tokens")
DEFAULT_RANK = 64
"""`max_lora_rank` where it is not given."""
SMALLEST_RANK = 8


def treat(shape: AdapterShape) -> Treatment:
    if (other := no_peft_folder(shape)) is not None:
        return other
    if shape.head_params:
        if not shape.head_names or any(projection(name) in READ_WHOLE for name in shape.head_names):
            return NotKnown("nobody has tried one with a head")
        return Refused(f"fails at tensors that are no A and B, such as {shape.head_names[0]}")
    if (unknown := not_looked_at(shape, PROJECTIONS)) is not None:
        return unknown
    adapted = {projection(name) for name in shape.ranks}
    attention = set(fused_with("q_proj"))
    if shape.is_equal and adapted & attention and not attention <= adapted:
        return NotKnown("what it makes up for q, k or v that no block has is not known to fit")
    return Applied({name: shape.rank / rank for name, rank in shape.ranks.items()}, "; ".join(_needs(shape)) or None)


def _needs(shape: AdapterShape) -> list[str]:
    needs = []
    if shape.rank > DEFAULT_RANK:
        needs.append(f"max_lora_rank {shape.rank} or more")
    if min(shape.ranks.values()) < SMALLEST_RANK:
        needs.append(f"no CUDA graphs, whose kernels may not align at ranks below {SMALLEST_RANK}")
    if shape.absent is None or shape.absent:
        needs.append("the PyTorch backend, which leaves layers that a block lacks alone")
    return needs
