"""What would fail every trial for the model's sake is a sentence of the dry run: by trying, on tiny models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BertModel,
    CanineConfig,
    DeepseekV3Config,
    GPT2Config,
    LlamaForCausalLM,
    MambaConfig,
    NystromformerConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from prunedlora.config.fields import with_values
from prunedlora.config.load import parse_sweep
from prunedlora.methods.prunedlora import PrunedLora
from prunedlora.registry import names
from prunedlora.sweep.preflight import preflight
from prunedlora.training.model import ModelError
from tests.tiny import decoder_tree, sweep_tree

ENCODER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
ENDS = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
DEEPSEEK = DeepseekV3Config(
    vocab_size=208, **ENCODER, num_key_value_heads=2, moe_intermediate_size=8, n_routed_experts=4, n_group=1,
    topk_group=1, num_experts_per_tok=2, first_k_dense_replace=0, kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=8,
    qk_nope_head_dim=8, v_head_dim=8, max_position_embeddings=64, **ENDS,
)  # fmt: skip
MAMBA = MambaConfig(vocab_size=208, hidden_size=16, num_hidden_layers=1, state_size=4, **ENDS)


def put(folder: Path, config: PreTrainedConfig, auto: Any) -> None:
    for file in (*folder.glob("*.safetensors"), folder / "generation_config.json"):
        file.unlink(missing_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        auto.from_config(config).save_pretrained(folder)


def decoder(tmp_path: Path, config: PreTrainedConfig | None = None, **values: Any) -> Any:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    if config is not None:
        put(tmp_path / "decoder", config, AutoModelForCausalLM)
    return parse_sweep(with_values(tree, {f"trial.{name.replace('__', '.')}": v for name, v in values.items()}), "test")


def encoder(tmp_path: Path, **values: Any) -> Any:
    tree = sweep_tree(tmp_path, tmp_path / "store")
    return parse_sweep(with_values(tree, {f"trial.{name.replace('__', '.')}": v for name, v in values.items()}), "test")


def message(config: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller reads its message
        preflight(config)
    assert type(caught.value).__module__.startswith("prunedlora.")
    return str(caught.value)


def test_a_token_without_a_row_in_the_embedding(tmp_path: Path) -> None:
    found = message(decoder(tmp_path, GPT2Config(vocab_size=90, n_embd=16, n_layer=1, n_head=2, **ENDS)))
    assert "embedding of model" in found
    assert "has 90 rows: its tokenizer has tokens that the model does not know" in found


def test_a_padding_token_without_a_row(tmp_path: Path) -> None:
    sweep = encoder(tmp_path)
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "<new padding>"}))
    assert "the tokenizer pads with token 30522, but model" in message(sweep)


def test_mamba_adapts_what_peft_can_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    found = preflight(decoder(tmp_path, MAMBA))
    (warning,) = found.warnings
    assert (
        "'all-linear' leaves 1 layers out: backbone.layers.0.mixer.out_proj is used by the kernels of mamba" in warning
    )
    assert "target module 'out_proj' cannot be adapted: 'backbone.layers.0.mixer.out_proj' is used by" in message(
        decoder(tmp_path, adapter__target_modules=["in_proj", "out_proj"])
    )


def test_a_shared_expert_that_peft_takes_for_stacked_ones(tmp_path: Path) -> None:
    found = preflight(decoder(tmp_path, DEEPSEEK))
    (warning,) = found.warnings
    assert "shared_experts.gate_proj has a name that PEFT takes for the stacked experts of deepseek_v3" in warning
    assert "target module 'up_proj' cannot be adapted" in message(
        decoder(tmp_path, adapter__target_modules=["up_proj", "gate_proj"])
    )


def test_half_of_an_encoder_decoder_writes_nothing(tmp_path: Path) -> None:
    sweep = decoder(tmp_path)
    BartConfig(vocab_size=208, d_model=16, encoder_layers=1, decoder_layers=1).save_pretrained(tmp_path / "decoder")
    assert "BartConfig is an encoder-decoder" in message(sweep)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model__config_overrides": {"hidden_size": "x"}}, "model.config_overrides: hidden_size cannot be 'x': "),
        ({"model__config_overrides": {"hidden_act": "nope"}}, "cannot be built from its config with model.config_over"),
        ({"model__config_overrides": {"num_attention_heads": 3}}, "The hidden size (16) is not a multiple of"),
        ({"model__config_overrides": {"hidden_size": 32}}, "has shape (16,) in the checkpoint and (32,) by the config"),
        ({"model__config_overrides": {"num_labels": 5}}, "sets num_labels, which the task sets by the data; remove it"),
        ({"model__config_overrides": {"num_hidden_layers": 3}}, "the checkpoint has no bert.encoder.layer.2.attention"),
        ({"model__gguf_file": "none.gguf"}, "none.gguf"),
    ],
)
def test_a_config_that_the_checkpoint_does_not_follow(tmp_path: Path, values: dict[str, Any], expected: str) -> None:
    assert expected in message(encoder(tmp_path, **values))


def test_a_checkpoint_without_its_pooler(tmp_path: Path) -> None:
    sweep = encoder(tmp_path, adapter__head_modules=["classifier"])
    config = BertConfig.from_pretrained(tmp_path / "model")
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "model")
    assert (
        "the checkpoint has no bert.pooler.dense.bias and 1 others that the model needs, so it must train"
        in message(sweep)
    )


def test_an_encoder_saved_without_the_head_that_writes(tmp_path: Path) -> None:
    sweep = decoder(tmp_path)
    config = BertConfig(vocab_size=208, **ENCODER, is_decoder=True, tie_word_embeddings=False)
    (tmp_path / "decoder" / "model.safetensors").unlink()
    BertModel(config).save_pretrained(tmp_path / "decoder")
    assert "the checkpoint has no cls.predictions" in message(sweep)


def test_a_folder_without_weights_and_one_with_broken_ones(tmp_path: Path) -> None:
    sweep, weights = encoder(tmp_path), tmp_path / "model" / "model.safetensors"
    weights.write_bytes(b"broken")
    assert "cannot load the weights of model" in message(sweep)
    weights.unlink()
    assert "no file named model.safetensors" in message(sweep)


def test_a_broken_tokenizer(tmp_path: Path) -> None:
    sweep = encoder(tmp_path)
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    assert "cannot load the tokenizer of model" in message(sweep)


def test_a_model_that_fails_at_its_first_batch(tmp_path: Path) -> None:
    from transformers import AutoModel

    sweep = encoder(tmp_path, adapter__head_modules=["classifier"], model__config_overrides={})
    config = NystromformerConfig(
        vocab_size=30522, **ENCODER, num_landmarks=4, segment_means_seq_len=64, max_position_embeddings=64
    )
    put(tmp_path / "model", config, AutoModel)
    found = message(sweep)
    assert "(NystromformerForSequenceClassification) fails at its first batch, of 2 examples of up to" in found


def test_a_model_that_peft_or_we_cannot_look_into(tmp_path: Path) -> None:
    from transformers import AutoModel

    sweep = encoder(tmp_path, adapter__head_modules=["classifier"], model__config_overrides={})
    config = CanineConfig(
        **ENCODER, downsampling_rate=4, num_hash_buckets=100, local_transformer_stride=16, max_position_embeddings=64
    )
    put(tmp_path / "model", config, AutoModel)
    assert "cannot be put on CanineForSequenceClassification" in message(sweep)


def test_roberta_takes_two_tokens_fewer_than_its_config_says(tmp_path: Path) -> None:
    from transformers import AutoModel

    values = {"adapter__head_modules": ["classifier"], "model__config_overrides": {}}
    sweep = encoder(tmp_path, **values)
    config = RobertaConfig(vocab_size=30522, **ENCODER, max_position_embeddings=66, pad_token_id=1)
    put(tmp_path / "model", config, AutoModel)
    preflight(sweep)
    assert "max_length 65 is above the model's limit of 64 tokens" in message(
        encoder(tmp_path, **values, data__max_length=65)
    )


def test_gradient_checkpointing_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    with pytest.raises(ModelError, match=r"model\.gradient_checkpointing: LlamaForCausalLM has none; set it to false"):
        preflight(decoder(tmp_path, model__gradient_checkpointing=True))


def test_a_model_that_does_not_generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "can_generate", lambda _: False)
    values = {"evaluation__metric": "exact_match", "evaluation__max_new_tokens": 3}
    with pytest.raises(ModelError, match=r"LlamaForCausalLM does not generate: take evaluation.metric loss"):
        preflight(decoder(tmp_path, **values))


def test_an_adapter_on_tied_embeddings_is_told(tmp_path: Path) -> None:
    (warning,) = preflight(decoder(tmp_path, adapter__target_modules=["q_proj", "lm_head"])).warnings
    assert "lm_head has the weights of the other embedding (tied)" in warning


OF_METHODS: dict[str, dict[str, Any]] = {
    "adalora": {"adalora": {"target_rank": 2, "begin": 0.2, "end": 0.7}},
    "droplora": {"droplora": {"probability": 0.3}},
    "full": {"adapter": None, "full": {}},
    "l1ra": {"l1ra": {}},
    "lora": {},
    "prunedlora": {"pruning": {"target_rank": 2, "schedule": {"name": "one_shot", "begin": 0.5, "every_steps": 1}}},
    "rslora": {"adapter.use_rslora": True},
    "svd": {"svd": {"ranks": [2, 1]}},
}
"""Fields of a trial for each registered method."""


@pytest.mark.parametrize("method", names("method"))
def test_every_method_passes_the_dry_run(tmp_path: Path, method: str) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    named = {} if method == "full" else {"adapter.method": method}
    values = {"pruning": None, **named, **OF_METHODS[method]}
    sweep = parse_sweep(with_values(tree, {f"trial.{path}": value for path, value in values.items()}), "test")
    assert preflight(sweep).warnings == ()


@pytest.mark.parametrize("ask", [lambda x: x[x != 0], lambda x: x.tolist(), lambda x: x.sum().item(), torch.unique])
def test_a_method_that_reads_the_weights_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[torch.Tensor], Any]
) -> None:
    """And the model that it half changed is not the one that the next is tried on."""
    attach = PrunedLora.attach

    def attach_by_weights(self: PrunedLora, model: torch.nn.Module, adapter_name: str) -> torch.nn.Module:
        adapted = attach(self, model, adapter_name)
        ask(next(model.parameters()))
        return adapted

    monkeypatch.setattr(PrunedLora, "attach", attach_by_weights)
    sweep = decoder(tmp_path)
    baselines = [{"adapter.method": "lora", "pruning": None}]
    found = preflight(parse_sweep({**sweep.model_dump(mode="json"), "baselines": baselines}, "test"))
    assert found.warnings == ("method 'prunedlora' needs the weights: whether it goes onto the model is not known",)


def test_a_way_of_attention_that_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attention in ("eager", "sdpa", "flex_attention"):
        preflight(decoder(tmp_path, model__attn_implementation=attention))
    found = message(decoder(tmp_path, model__attn_implementation="spda"))
    assert "cannot be built from its config with model.attn_implementation 'spda': ValueError" in found
    monkeypatch.setattr(LlamaForCausalLM, "_supports_flex_attn", False)
    assert "flex_attention" in message(decoder(tmp_path, model__attn_implementation="flex_attention"))
