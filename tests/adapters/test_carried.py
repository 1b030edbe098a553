"""Every field of PEFT's LoraConfig is either carried by an export or refused by name."""

from dataclasses import fields
from typing import Any

import pytest
from peft import LoHaConfig, LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from prunedlora.adapters.carried import CARRIED_FIELDS, NotCarriedError, check_carried


def base() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    )


def adapted(**lora: Any) -> Any:
    return get_peft_model(base(), LoraConfig(**({"r": 4, "target_modules": ["q_proj", "v_proj"]} | lora)))


@pytest.mark.parametrize(
    "lora",
    [
        {},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"init_lora_weights": "orthogonal"},
        {"use_rslora": True, "lora_dropout": 0.1, "alpha_pattern": {"q_proj": 3}},
        {"modules_to_save": ["lm_head"]},
        {"layers_to_transform": [1]},
        {"exclude_modules": ["v_proj"]},
    ],
    ids=str,
)
def test_what_is_carried_passes(lora: dict[str, Any]) -> None:
    check_carried(adapted(**lora), "default")


OTHERS = [field.name for field in fields(LoraConfig) if field.name not in CARRIED_FIELDS]


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_field_is_refused_by_name(name: str) -> None:
    model = adapted()
    setattr(model.peft_config["default"], name, "something")
    with pytest.raises(NotCarriedError, match=rf"adapter 'default' has {name} 'something', which an export does not"):
        check_carried(model, "default")


def test_the_fields_of_this_peft_are_known() -> None:
    known = {field.name for field in fields(LoraConfig)}
    assert {"use_dora", "layer_replication", "trainable_token_indices", "target_parameters", "bias"} <= set(OTHERS)
    assert known >= CARRIED_FIELDS - {"lora_ga_config", "corda_config", "eva_config"}  # of some versions only


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "mica"])
def test_inits_that_change_the_base_are_refused(init: str) -> None:
    model = adapted(**({"init_lora_weights": init} if init in ("pissa", "olora") else {}))
    model.peft_config["default"].init_lora_weights = init
    with pytest.raises(NotCarriedError, match=f"has init_lora_weights '{init}', which may change base weights"):
        check_carried(model, "default")


def test_other_trained_parameters_are_named() -> None:
    model = adapted()
    for layer in model.get_base_model().model.layers:
        layer.input_layernorm.weight.requires_grad_(True)
        layer.post_attention_layernorm.weight.requires_grad_(True)
    with pytest.raises(NotCarriedError, match=r"does not carry: .*layers\.0\.input_layernorm\.weight, .* and 1 more; "):
        check_carried(model, "default")


def test_another_active_adapter_is_named() -> None:
    model = adapted()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    check_carried(model, "default")
    with pytest.raises(NotCarriedError, match=r"adapters \['default'\] are active, of which 'second' alone"):
        check_carried(model, "second")
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(NotCarriedError, match=r"adapters \['default', 'second'\] are active, of which 'default' alone"):
        check_carried(model, "default")


def test_a_model_that_is_no_peft_model_is_refused() -> None:
    model = inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"]), base())
    for other in (model, nn.Linear(2, 2)):
        with pytest.raises(NotCarriedError, match=r"wrap the base model with get_peft_model"):
            check_carried(other, "default")


def test_an_adapter_of_another_kind_is_refused() -> None:
    model = get_peft_model(base(), LoHaConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(NotCarriedError, match="adapter 'default' is of LoHaConfig, not of LoraConfig"):
        check_carried(model, "default")
