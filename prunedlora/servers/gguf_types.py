"""Base models for which an adapter is known to come out of a GGUF file as it was trained.

Each of these types has a test that compares what llama.cpp's logits change by with PEFT's
(tests/adapters/test_gguf_served.py). Of others the user's own `convert_lora_to_gguf.py` knows more.
"""

from collections.abc import Mapping

GGUF_ARCHITECTURES: Mapping[str, str] = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
}
"""`model_type` of a base model's configuration → name of the architecture in GGUF files."""

GGUF_MODEL_TYPES = frozenset(GGUF_ARCHITECTURES)

INTERLEAVED = frozenset({"llama", "mistral"})
"""Types whose q and k have the two halves of a head's rotation side by side in transformers, and row by row in turn in
GGUF. https://github.com/ggml-org/llama.cpp/blob/master/conversion/llama.py (undo_permute)"""
