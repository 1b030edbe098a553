"""A model that reads ahead is no model for generation: refused by its config where that says it, else by one probe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    PretrainedConfig,
    RobertaConfig,
    T5Config,
    XLMConfig,
    XLNetConfig,
)

from prunedlora.config.load import parse_sweep
from prunedlora.sweep.preflight import preflight
from prunedlora.training.causal import CAUSAL, class_problem, reads_ahead
from prunedlora.training.model import ModelError
from prunedlora.trial.assets import load_assets
from tests.tiny import decoder_tree

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 200,
}
ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
BERT = {**SHAPE, "max_position_embeddings": 130}
XLNET = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": 200, "initializer_range": 0.2}
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 200, "max_position_embeddings": 130}
CAUSAL_ONES: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SHAPE, **ENDS),
    "mistral": lambda: MistralConfig(**SHAPE, **ENDS, num_key_value_heads=2, sliding_window=4),
    "mixtral": lambda: MixtralConfig(**SHAPE, **ENDS, num_key_value_heads=2, num_local_experts=4),
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=200, **ENDS),
    "mamba": lambda: MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=200, **ENDS),
    "bert as decoder": lambda: BertConfig(**BERT, is_decoder=True),
    "xlm, causal": lambda: XLMConfig(**XLM, causal=True),
}
READING_AHEAD: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(**BERT),
    "roberta": lambda: RobertaConfig(**BERT),
    "xlm": lambda: XLMConfig(**XLM),
    "xlnet": lambda: XLNetConfig(**XLNET),
}


def model_of(config: PretrainedConfig) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", CAUSAL_ONES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_causal_model_passes(name: str, dtype: torch.dtype) -> None:
    config = CAUSAL_ONES[name]()
    assert class_problem(config, CAUSAL) is None
    assert not reads_ahead(model_of(config).to(dtype))


@pytest.mark.parametrize("name", READING_AHEAD)
def test_the_probe_finds_what_reads_ahead(name: str) -> None:
    assert reads_ahead(model_of(READING_AHEAD[name]()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert", r"Config without is_decoder is an encoder, .*\{is_decoder: true\}"),
        ("roberta", r"Config without is_decoder is an encoder, .*\{is_decoder: true\}"),
        ("xlm", "XLMConfig is of a model whose every position sees the whole text"),
        ("xlnet", "XLNetConfig is of a model whose every position sees the whole text"),
    ],
)
def test_generation_on_an_encoder_is_refused_before_training(name: str, message: str, tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    (tmp_path / "decoder" / "model.safetensors").unlink()
    model_of(READING_AHEAD[name]()).save_pretrained(tmp_path / "decoder")
    sweep = parse_sweep(tree, "test")
    with pytest.raises(ModelError, match=message):
        preflight(sweep)
    with pytest.raises(ModelError, match=message):
        load_assets(sweep.trial, torch.device("cpu"))


def test_an_encoder_decoder_is_refused_in_a_line(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    T5Config(d_model=32, num_layers=1, num_heads=2, d_kv=16, d_ff=32, vocab_size=200).save_pretrained(
        tmp_path / "decoder"
    )
    with pytest.raises(ModelError) as caught:
        preflight(parse_sweep(tree, "test"))
    assert "T5Config is an encoder-decoder, which reads with one half and writes with the other" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_models_own_code_is_left_to_the_probe() -> None:
    config = AutoConfig.for_model("t5")
    config.auto_map = {CAUSAL: "modeling.Own"}
    assert class_problem(config, CAUSAL) is None
