"""Tiny random models of the kinds that are fine-tuned, in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from prunedlora.adapters.attach import AdapterSettings

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other

LLAMA = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "pad_token_id": 0,
}


def bert() -> nn.Module:
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, num_labels=3
    )
    return BertForSequenceClassification(config)


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32))


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**LLAMA))


def llama_classifier() -> nn.Module:
    return LlamaForSequenceClassification(LlamaConfig(**LLAMA, num_labels=3))


KINDS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "bert": (bert, ["bert.pooler", "classifier"]),
    "llama": (llama, []),
    "llama_classifier": (llama_classifier, ["score"]),
    "gpt2": (gpt2, []),
}


@pytest.fixture
def make_model() -> Callable[[str], nn.Module]:
    """Makes the model of a kind, the same weights every time."""

    def make(kind: str) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return KINDS[kind][0]().double()

    return make


@pytest.fixture
def settings() -> Callable[..., AdapterSettings]:
    """Settings of an adapter on all linear layers of a kind, with overrides."""

    def make(kind: str, **overrides: object) -> AdapterSettings:
        fields: dict[str, object] = {
            "initial_rank": 4,
            "alpha": 6.0,
            "use_rslora": False,
            "dropout": 0.0,
            "target_modules": "all-linear",
            "head_modules": KINDS[kind][1],
        }
        return AdapterSettings(**(fields | overrides))  # type: ignore[arg-type]

    return make


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Three token sequences, the last one padded."""
    generator = torch.Generator().manual_seed(2)
    attention_mask = torch.ones(3, 7, dtype=torch.long)
    attention_mask[2, 5:] = 0
    return {"input_ids": torch.randint(1, 50, (3, 7), generator=generator), "attention_mask": attention_mask}
