"""Tiny language models of every type that GGUF adapters are written for, and their GGUF files in float32, written by
hand: what llama.cpp is tested with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.adapters.export import export
from prunedlora.servers.gguf_types import GGUF_ARCHITECTURES, INTERLEAVED
from tests.adapters.test_export import train

VOCABULARY = 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": None,
    "eos_token_id": 0, "pad_token_id": None, "initializer_range": 0.3,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {"tie_word_embeddings": False, "sliding_window": None},
    "qwen2": {"tie_word_embeddings": False},
    "qwen3": {"tie_word_embeddings": False, "head_dim": 16},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64, "tie_word_embeddings": True},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64, "tie_word_embeddings": True},
    "phi3": {"tie_word_embeddings": False, "original_max_position_embeddings": 128, "sliding_window": None},
}


def tiny_config(model_type: str) -> PretrainedConfig:
    return CONFIG_MAPPING[model_type](**SIZES, **OWN[model_type])


def tiny_language_model(model_type: str) -> PreTrainedModel:
    """Random but fixed weights in float32, norms and biases too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(tiny_config(model_type), attn_implementation="eager").float().eval()
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", ".bias")):
                parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def write_base(model: PreTrainedModel, to: Path) -> Path:
    """The model as GGUF in float32. Its vocabulary is of made-up tokens: prompts are token ids."""
    config, kind = model.config, model.config.model_type
    architecture = GGUF_ARCHITECTURES[kind]
    writer = gguf.GGUFWriter(to, architecture)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_dim)
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if kind in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window)
    if kind == "phi3":
        writer.add_sliding_window(0)
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    _add_vocabulary(writer, config.vocab_size)
    names = gguf.get_tensor_name_map(
        next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture), config.num_hidden_layers
    )
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        numbers = tensor.numpy()
        if kind in INTERLEAVED and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            numbers = numbers.reshape(heads, 2, -1, numbers.shape[1]).swapaxes(1, 2).reshape(numbers.shape)
        if kind.startswith("gemma") and name.endswith("norm.weight"):
            numbers = numbers + 1
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert place is not None, name
        writer.add_tensor(place, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return to


def _add_vocabulary(writer: Any, size: int) -> None:
    letters = [chr(0x100 + number) for number in range(size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(letters)
    writer.add_token_types([gguf.TokenType.NORMAL] * size)
    writer.add_token_merges([f"{letters[1]} {letters[2]}"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)


def export_tiny_adapter(
    model: PreTrainedModel, folder: Path, ranks: Sequence[int], targets: str | Sequence[str] = "all-linear"
) -> None:
    """An adapter on the model's linear layers as PEFT trains one, cut to `ranks` (repeated), exported; the model is
    given back as it was."""
    settings = AdapterSettings(max(ranks), 1.5 * max(ranks), False, 0.0, targets, [])
    adapted = attach(model, settings, "default", 0)
    train(adapted, list(ranks))
    export(adapted, "default", folder, "some/base")
    detach(adapted)


def next_token(model: nn.Module, ids: Sequence[int]) -> NDArray[np.float64]:
    """Log probabilities of what follows these tokens, (vocabulary,)."""
    with torch.no_grad():
        logits = model(torch.tensor([list(ids)])).logits[0, -1].double()
    return torch.log_softmax(logits, -1).numpy()
