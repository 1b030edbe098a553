"""Configurations of tiny models whose linear layers a task does not reach alike: with a vision tower, with experts."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Gemma3Config, MixtralConfig, PreTrainedConfig

TEXT: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8,
}  # fmt: skip


def gemma3(vocab_size: int) -> PreTrainedConfig:
    """Gemma 3 as it is loaded for text: a language model of two layers beside a vision tower."""
    return Gemma3Config(
        text_config={**TEXT, "vocab_size": vocab_size, "sliding_window": 8},
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        },
        mm_tokens_per_image=4,
        image_token_index=vocab_size - 1,
        boi_token_index=vocab_size - 2,
        eoi_token_index=vocab_size - 3,
    )  # fmt: skip


GEMMA3 = gemma3(64)


def mixtral(vocab_size: int) -> PreTrainedConfig:
    """Mixtral, whose experts lie in one tensor a layer."""
    return MixtralConfig(**TEXT | {"vocab_size": vocab_size}, num_local_experts=4)


def put_in_place(folder: Path, config: PreTrainedConfig) -> None:
    """Random but fixed weights of `config` in the place of the model in `folder`; its tokenizer stays."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    for file in (*folder.glob("*.safetensors"), folder / "generation_config.json"):
        file.unlink(missing_ok=True)
    model.save_pretrained(folder)
