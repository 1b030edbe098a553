"""The number of positions is what a real forward pass takes, to the token."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    BioGptConfig,
    CamembertConfig,
    Data2VecTextConfig,
    GPT2Config,
    LongformerConfig,
    MPNetConfig,
    OPTConfig,
    RobertaConfig,
    XLMRobertaConfig,
    XmodConfig,
)

from prunedlora.training.positions import table_positions

ENCODER: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 18,
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": 50, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 18,
}  # fmt: skip
MODELS: dict[str, tuple[Any, Any, int]] = {
    "bert": (AutoModelForSequenceClassification, BertConfig(**ENCODER), 18),
    "roberta": (AutoModelForSequenceClassification, RobertaConfig(**ENCODER, pad_token_id=1), 16),
    "xlm-roberta": (AutoModelForSequenceClassification, XLMRobertaConfig(**ENCODER, pad_token_id=1), 16),
    "camembert": (AutoModelForSequenceClassification, CamembertConfig(**ENCODER, pad_token_id=1), 16),
    "data2vec": (AutoModelForSequenceClassification, Data2VecTextConfig(**ENCODER, pad_token_id=1), 16),
    "xmod": (
        AutoModelForSequenceClassification,
        XmodConfig(**ENCODER, pad_token_id=1, languages=["en_XX"], default_language="en_XX"),
        16,
    ),
    "longformer": (AutoModelForSequenceClassification, LongformerConfig(**ENCODER, attention_window=4), 16),
    "mpnet": (AutoModelForSequenceClassification, MPNetConfig(**ENCODER), 16),
    "bart": (AutoModelForSequenceClassification, BartConfig(**BART, eos_token_id=2), 18),
    "gpt2": (AutoModelForCausalLM, GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=18), 18),
    "opt": (
        AutoModelForCausalLM,
        OPTConfig(**{**ENCODER, "ffn_dim": 32, "word_embed_proj_dim": 16}),
        18,
    ),
    "biogpt": (AutoModelForCausalLM, BioGptConfig(**ENCODER), 18),
}


@pytest.mark.parametrize("name", MODELS)
def test_as_many_tokens_as_counted_and_not_one_more(name: str) -> None:
    auto, config, expected = MODELS[name]
    model = auto.from_config(config).eval()
    with torch.device("meta"):
        assert table_positions(auto.from_config(config)) == expected

    def run(length: int) -> None:
        ids = torch.full((1, length), 5)
        ids[:, -1] = 2
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))

    run(expected)
    if name != "longformer":  # pads to whole windows
        with pytest.raises((IndexError, RuntimeError)):
            run(expected + 1)
