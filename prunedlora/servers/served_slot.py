"""Served slots: what a LoRA server keeps on the GPU for adapters, whatever is in them.

vLLM allocates `max_loras` slots when it starts. A slot is A (rank, in) and B (out, rank) of *every* linear layer of the
base model, adapted or not, at the rank `max_lora_rank`; what an adapter lacks is zeros. Projections that vLLM fuses
(q, k, v; gate, up) keep a pair each, so that the sum over the separate layers is the same. Model classes that list
`embedding_modules` (Llama, Mistral and others; not Gemma) hold pairs for the input and the output embedding too.
https://github.com/vllm-project/vllm/blob/main/vllm/lora/layers/base_linear.py (create_lora_weights)
https://github.com/vllm-project/vllm/blob/main/vllm/lora/model_manager.py (_create_lora_modules)

All figures are for the whole model (tensor_parallel_size 1), without vLLM's `--lora-target-modules`, with which newer
versions leave layers out.
"""

from collections.abc import Mapping

SERVED_SLOTS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for max_lora_rank. https://docs.vllm.ai/en/latest/api/vllm/config/lora/ (MaxLoRARanks)"""

NUMBER_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
"""Type of a slot's numbers → bytes of one. vLLM's `auto` is the type that the base model is served in."""

HALF_BYTES = 2
"""Of a number in the type that vLLM serves in unless told otherwise: bfloat16 for bfloat16 checkpoints, otherwise
float16, for float32 ones too."""

Widths = Mapping[str, tuple[int, int]]
"""Full module name in the base model → (in_features, out_features)."""


def served_slot(max_rank: int) -> int | None:
    """The smallest slot that holds an adapter whose largest rank is `max_rank`; None when it is above all of them."""
    return next((slot for slot in SERVED_SLOTS if slot >= max_rank), None)


def slot_bytes(widths: Widths, rank: int, number_bytes: int) -> int:
    """Bytes of one slot: sum over the layers of (in + out) · rank · number_bytes."""
    return sum(d_in + d_out for d_in, d_out in widths.values()) * rank * number_bytes
