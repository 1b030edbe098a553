"""Adapters made by plain PEFT elsewhere: gone on from as they are, or refused by name."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.adapters.existing import ExistingAdapter, ExistingAdapterError
from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.targets import TargetError
from tests.adapters.test_attach import assert_same, snapshot

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "rslora with patterns": (
        "llama",
        {
            "r": 3, "lora_alpha": 5.0, "use_rslora": True, "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 5}, "alpha_pattern": {"down_proj": 1.5},
        },
    ),
    "a head": (
        "bert",
        {"task_type": "SEQ_CLS", "r": 4, "target_modules": ["query", "value"], "modules_to_save": ["pooler.dense"]},
    ),
    "a regular expression on one layer, excluding": (
        "llama",
        {
            "r": 2, "lora_alpha": 7, "target_modules": r".*\.(q|k|v)_proj", "exclude_modules": ["k_proj"],
            "lora_dropout": 0.4,
        },
    ),
    "all linear layers": ("llama", {"task_type": "CAUSAL_LM", "target_modules": "all-linear"}),
    "one block": ("llama", {"target_modules": ["q_proj", "o_proj"], "layers_to_transform": [1]}),
    "transposed": ("gpt2", {"r": 3, "target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}),
}  # fmt: skip


def made_elsewhere(model: nn.Module, folder: Path, config: PeftConfig) -> PeftModel:
    """An adapter that has been trained: no factor or head is as it was."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        adapted = get_peft_model(model, config)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        adapted.save_pretrained(folder)
    return adapted.eval()


def on(folder: Path, heads: Any = (), **fields: Any) -> AdapterSettings:
    existing = ExistingAdapter("theirs", folder, fields.pop("convert_rank", None))
    return AdapterSettings(None, None, False, 0.0, None, list(heads), existing=existing, **fields)


def refusal(model: nn.Module, settings: AdapterSettings) -> str:
    before = snapshot(model)
    with pytest.raises(ExistingAdapterError) as caught:
        attach(model, settings, "default", 0)
    after = snapshot(model)
    if next(model.parameters()).is_meta:
        before["weights"] = after["weights"] = {}
    assert_same(before, after)
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_it_gives_the_logits_that_it_gives_in_plain_peft(
    form: str, make_model: Callable[[str], nn.Module], batch: dict[str, Tensor], tmp_path: Path
) -> None:
    kind, fields = FORMS[form]
    elsewhere = made_elsewhere(make_model(kind), tmp_path, LoraConfig(**fields))
    heads = ["bert.pooler.dense", "classifier"] if kind == "bert" else []
    base = make_model(kind)
    before, random = snapshot(base), torch.get_rng_state()
    ours = attach(base, on(tmp_path, heads), "default", 0)
    assert torch.equal(random, torch.get_rng_state())
    with torch.no_grad():
        expected, found = elsewhere(**batch).logits, ours.eval()(**batch).logits
        plain = make_model(kind).eval()(**batch).logits
    assert (found - expected).abs().max() < 1e-6 < (plain - expected).abs().max()
    trained = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in elsewhere.named_parameters() if parameter.requires_grad}
    export(ours, "default", tmp_path / "exported", "base")
    again = PeftModel.from_pretrained(make_model(kind), str(tmp_path / "exported")).eval()
    with torch.no_grad():
        assert (again(**batch).logits - expected).abs().max() < 1e-5  # weights are saved in float32 here
    detach(ours)
    before["trained"] = [(name, True) for name, _ in base.named_parameters()]
    assert_same(before, snapshot(base))


def test_ranks_scalings_and_dropout(make_model: Callable[[str], nn.Module], tmp_path: Path) -> None:
    kind, fields = FORMS["rslora with patterns"]
    made_elsewhere(make_model(kind), tmp_path, LoraConfig(**fields))
    settings = on(tmp_path)
    ours = attach(make_model(kind), AdapterSettings(**{**vars(settings), "dropout": 0.3}), "default", 0)
    layers = {layer.name.removeprefix("model.layers."): layer for layer in adapted_layers(ours, "default")}
    assert [layers[name].rank for name in ("0.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.v_proj")] == [
        2,
        3,
        5,
    ]
    assert layers["1.self_attn.v_proj"].scaling == pytest.approx(5 / 5**0.5)
    assert layers["0.mlp.down_proj"].scaling == pytest.approx(1.5 / 3**0.5)
    assert all(layer.module.lora_dropout["default"].p == 0.3 for layer in layers.values())


def test_half_precision_factors_train_in_float32(make_model: Callable[[str], nn.Module], tmp_path: Path) -> None:
    made_elsewhere(make_model("llama"), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    path = tmp_path / "adapter_model.safetensors"
    halves = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file(halves, path, metadata={"format": "pt"})
    ours = attach(make_model("llama").bfloat16(), on(tmp_path), "default", 0)
    (name, half), *_ = halves.items()
    layer = adapted_layers(ours, "default")[0]
    assert layer.name in name
    assert layer.A.dtype == torch.float32
    assert torch.equal(layer.A, half.float())


def test_on_a_model_without_weights_names_and_shapes_are_compared(
    make_model: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    made_elsewhere(make_model("llama"), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    empty = make_model("llama").to("meta")
    detach(attach(empty, on(tmp_path), "default", 0))
    path = tmp_path / "adapter_model.safetensors"
    weights = load_file(path)
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    save_file(weights | {key: torch.zeros(2, 17)}, path)
    said = refusal(empty, on(tmp_path))
    assert "does not fit the base model: 'model.layers.1.self_attn.q_proj' has (2, 16) there, (2, 17) in" in said
    save_file({name: tensor for name, tensor in weights.items() if name != key}, path)
    assert "has no weights for 'model.layers.1.self_attn.q_proj'" in refusal(empty, on(tmp_path))
    save_file(weights | {key.replace("q_proj", "k_proj"): torch.zeros(2, 16)}, path)
    assert "has weights for 'model.layers.1.self_attn.k_proj', which the base model lacks" in refusal(
        empty, on(tmp_path)
    )
    path.write_bytes(b"no tensors")
    assert "its weights cannot be read" in refusal(empty, on(tmp_path))


def test_other_heads_than_the_configuration_has(make_model: Callable[[str], nn.Module], tmp_path: Path) -> None:
    made_elsewhere(
        make_model("bert"), tmp_path, LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    )
    assert "trains classifier whole: set adapter.head_modules to ['classifier'], with optimizer.head" in refusal(
        make_model("bert"), on(tmp_path)
    )
    path = tmp_path / "adapter_model.safetensors"
    weights = load_file(path)
    name = "base_model.model.classifier.weight"
    save_file({key: tensor for key, tensor in weights.items() if key != name}, path)
    assert "has no weights for 'classifier'" in refusal(make_model("bert"), on(tmp_path, ["classifier"]))
    save_file(weights | {name: torch.zeros(2, 16)}, path)
    assert "'classifier' has (3, 16) there, (2, 16) in the adapter" in refusal(
        make_model("bert"), on(tmp_path, ["classifier"])
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"use_dora": True}, "has use_dora True; adapters are gone on from that have False there"),
        ({"bias": "lora_only"}, "has bias 'lora_only'"),
        ({"lora_bias": True}, "has lora_bias True"),
        ({"trainable_token_indices": [1]}, "has trainable_token_indices [1]"),
        ({"target_parameters": ["q_proj.weight"]}, "has target_parameters ['q_proj.weight']"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "has layer_replication"),
        ({"init_lora_weights": "pissa"}, "has init_lora_weights 'pissa', which changed the base weights"),
        ({"init_lora_weights": "olora"}, "has init_lora_weights 'olora', which changed the base weights"),
        (
            {"init_lora_weights": "loftq"},
            "has init_lora_weights 'loftq': its factors fit the base weights that this made",
        ),
        ({"init_lora_weights": None}, "has init_lora_weights None, which is none of PEFT's values"),
        ({"init_lora_weights": ["eva"]}, "has init_lora_weights ['eva'], which is none of PEFT's values"),
        ({"r": 4.0}, "adapter_config.json has r 4.0, not a whole number from 1"),
        ({"r": 0}, "adapter_config.json has r 0, not a whole number from 1"),
        ({"lora_alpha": None}, "adapter_config.json has lora_alpha None, not a number"),
        ({"rank_pattern": None}, "adapter_config.json has rank_pattern None, not an object of modules' names"),
        ({"rank_pattern": {"q_proj": "2"}}, "adapter_config.json has rank_pattern 'q_proj' '2', not a whole number"),
        ({"alpha_pattern": [1]}, "adapter_config.json has alpha_pattern [1], not an object"),
        ({"modules_to_save": 3}, "PEFT does not take its configuration"),
        ({"of_a_later_version": 3}, "has of_a_later_version 3, which peft"),
        ({"peft_type": "SOMETHING"}, "is of type 'SOMETHING', which peft"),
        ({"target_modules": ["nothing"]}, "does not fit the base model: "),
        ({"target_modules": ["embed_tokens"]}, "adapts 'model.embed_tokens', a Embedding; linear layers alone"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(
    fields: dict[str, Any], said: str, make_model: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    made_elsewhere(make_model("llama"), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    assert said in refusal(make_model("llama"), on(tmp_path))


@pytest.mark.parametrize("field", ["r", "lora_alpha"])
def test_ranks_and_scalings_are_not_pefts_defaults(
    field: str, make_model: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    made_elsewhere(make_model("llama"), tmp_path, LoraConfig(target_modules=["q_proj"]))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != field}))
    assert f"adapter_config.json has no {field}" in refusal(make_model("llama"), on(tmp_path))


def test_a_setting_of_a_switch_that_is_off(make_model: Callable[[str], nn.Module], tmp_path: Path) -> None:
    made_elsewhere(make_model("llama"), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_qalora": False, "qalora_group_size": 32}))
    detach(attach(make_model("llama"), on(tmp_path), "default", 0))


def test_a_pissa_adapter_that_peft_has_made_a_lora_of(
    make_model: Callable[[str], nn.Module], batch: dict[str, Tensor], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pissa = get_peft_model(
            make_model("llama").float(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa")
        )
        pissa.save_pretrained(tmp_path / "initial")
        with torch.no_grad():
            for parameter in pissa.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1)
        pissa.save_pretrained(tmp_path / "lora", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    ours = attach(make_model("llama").float(), on(tmp_path / "lora"), "default", 0)
    assert {layer.rank for layer in adapted_layers(ours, "default")} == {4}
    with torch.no_grad():
        assert (ours.eval()(**batch).logits - pissa.eval()(**batch).logits).abs().max() < 1e-4


def test_another_tuner_is_refused_or_converted_by_peft(
    make_model: Callable[[str], nn.Module], batch: dict[str, Tensor], tmp_path: Path
) -> None:
    elsewhere = made_elsewhere(
        make_model("bert"),
        tmp_path,
        LoHaConfig(r=2, alpha=2, target_modules=["query", "value"], modules_to_save=["classifier"]),
    )
    assert "is no LoRA but LOHA: PEFT can approximate" in refusal(make_model("bert"), on(tmp_path, ["classifier"]))
    base = make_model("bert")
    said = refusal(base, on(tmp_path, ["classifier"], convert_rank=40))
    assert "PEFT does not make a LoRA of adapter 'theirs' (LOHA): The chosen rank 40 is larger" in said
    # The product of two matrices of rank 2, entry by entry, has rank 4 at most.
    ours = attach(base, on(tmp_path, ["classifier"], convert_rank=4), "default", 0)
    assert {layer.rank for layer in adapted_layers(ours, "default")} == {4}
    with torch.no_grad():
        assert (ours.eval()(**batch).logits - elsewhere(**batch).logits).abs().max() < 1e-4
    empty = make_model("bert").to("meta")
    detach(attach(empty, on(tmp_path, ["classifier"], convert_rank=4), "default", 0))
    assert "is a LoRA already" not in refusal(empty, on(tmp_path, ["classifier"], convert_rank=40))


def test_conversion_of_what_is_no_sum_of_matrices_or_a_lora_already(
    make_model: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    made_elsewhere(make_model("llama"), tmp_path / "ia3", IA3Config(target_modules=["k_proj"], feedforward_modules=[]))
    assert "PEFT does not make a LoRA of adapter 'theirs' (IA3)" in refusal(
        make_model("llama"), on(tmp_path / "ia3", convert_rank=2)
    )
    made_elsewhere(make_model("llama"), tmp_path / "lora", LoraConfig(r=2, target_modules=["q_proj"]))
    assert "is a LoRA already: remove adapter.convert_to_lora" in refusal(
        make_model("llama"), on(tmp_path / "lora", convert_rank=2)
    )


def test_weights_in_a_bin_and_no_pickle_of_other_things(
    make_model: Callable[[str], nn.Module], batch: dict[str, Tensor], tmp_path: Path
) -> None:
    elsewhere = made_elsewhere(make_model("llama"), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    weights = load_file(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(weights, tmp_path / "adapter_model.bin")
    ours = attach(make_model("llama"), on(tmp_path), "default", 0).eval()
    with torch.no_grad():
        assert (ours(**batch).logits - elsewhere(**batch).logits).abs().max() < 1e-6
    torch.save({"code": Path}, tmp_path / "adapter_model.bin")
    assert "its weights are not loaded: " in refusal(make_model("llama"), on(tmp_path))


def test_a_fresh_adapter_with_the_ranks_of_another(make_model: Callable[[str], nn.Module]) -> None:
    ranks = {f"model.layers.{i}.self_attn.{p}_proj": rank for (i, p), rank in zip(
        [(1, "q"), (0, "v"), (0, "q")], [5, 0, 2], strict=True)}  # fmt: skip
    fresh = AdapterSettings(None, 6.0, True, 0.0, None, [], ranks=ranks)
    ours = attach(make_model("llama"), fresh, "default", 0)
    layers = adapted_layers(ours, "default")
    assert [(layer.name, layer.rank) for layer in layers] == [
        ("model.layers.0.self_attn.q_proj", 2), ("model.layers.1.self_attn.q_proj", 5),
    ]  # fmt: skip
    assert [layer.scaling for layer in layers] == pytest.approx([6 / 2**0.5, 6 / 5**0.5])
    assert all(layer.A.any() and not layer.B.any() for layer in layers)


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ({"model.layers.0.mlp.up": 1}, "'model.layers.0.mlp.up', which the base model does not have"),
        ({"model.embed_tokens": 1}, "'model.embed_tokens', a Embedding, not a linear layer"),
        ({"score": 1}, "'score', which is trained whole"),
        ({"model.layers.1.mlp.up_proj": 1}, "which gets no gradient"),
        ({"model.layers.0.mlp.up_proj": 0}, "every layer has rank 0"),
    ],
)
def test_ranks_that_do_not_fit(ranks: dict[str, int], said: str, make_model: Callable[[str], nn.Module]) -> None:
    settings = AdapterSettings(
        None, 6.0, False, 0.0, None, ["score"], reached={"model.layers.0.mlp.up_proj"}, ranks=ranks
    )
    with pytest.raises(TargetError, match=said):
        attach(make_model("llama_classifier"), settings, "default", 0)
