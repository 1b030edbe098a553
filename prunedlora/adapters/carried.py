"""Whether an adapter that someone else has attached is one that an exported folder can carry (export.py).

A folder holds A and B of linear layers and whole heads, for the base model as it was published. What an adapter of
PEFT's may have besides (base weights that its initialisation changed, layers that stand several times, trained tokens)
would be left behind without a word.
"""

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from peft import LoraConfig, PeftModel
from torch import nn
from torch.distributed.tensor import DTensor

from prunedlora.adapters.layers import adapted_layers, wrapped_heads

CARRIED_FIELDS = frozenset({
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout", "fan_in_fan_out",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save",
    "runtime_config", "megatron_core",
    "init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "qalora_group_size",
})  # fmt: skip
"""Of LoraConfig, whatever their value: names, ranks, scalings and places, which are exported, what matters in training
alone, and what has an effect by another field (the inits' settings by `init_lora_weights`, the group's size by
`use_qalora`). Any other field, those of later versions of PEFT too, must have its default."""
CARRIED_INITS = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base weights as they are; pissa, olora, corda, loftq and lora_ga take
the first product out of them."""


class NotCarriedError(ValueError):
    """An adapter with something that its exported folder would not have; the message names it."""


def check_carried(model: nn.Module, adapter_name: str) -> None:
    """Raises NotCarriedError for a model that is no PeftModel or has another adapter active, a setting of its LoRA or a
    trained parameter that an export leaves behind, and for factors that are parts of larger ones."""
    if not isinstance(model, PeftModel):
        raise NotCarriedError(
            f"the model ({type(model).__name__}) has its adapter by another way than PEFT's get_peft_model: wrap the "
            "base model with get_peft_model(model, LoraConfig(...))"
        )
    if model.active_adapters != [adapter_name]:
        raise NotCarriedError(
            f"adapters {model.active_adapters} are active, of which {adapter_name!r} alone would be exported: "
            f"model.set_adapter({adapter_name!r})"
        )
    _check_config(model.peft_config[adapter_name], adapter_name)
    _check_parameters(model, adapter_name)


def _check_config(config: Any, adapter_name: str) -> None:
    if not isinstance(config, LoraConfig):
        raise NotCarriedError(f"adapter {adapter_name!r} is of {type(config).__name__}, not of LoraConfig")
    if config.init_lora_weights not in CARRIED_INITS:
        allowed = ", ".join(map(repr, CARRIED_INITS))
        raise NotCarriedError(
            f"adapter {adapter_name!r} has init_lora_weights {config.init_lora_weights!r}, which may change base "
            f"weights, and an export does not carry those: take one of {allowed}"
        )
    for name, value, default in uncarried(config):
        raise NotCarriedError(
            f"adapter {adapter_name!r} has {name} {value!r}, which an export does not carry: leave it at {default!r}"
        )


def uncarried(config: LoraConfig) -> Iterator[tuple[str, Any, Any]]:
    """Settings of a LoRA that an export leaves behind: name, value, and the default that it would need."""
    for field in fields(config):
        value, default = getattr(config, field.name), _default(field)
        if field.name not in CARRIED_FIELDS and value != default:
            yield field.name, value, default


def _default(field: "Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _check_parameters(model: PeftModel, adapter_name: str) -> None:
    factors = [factor for layer in adapted_layers(model, adapter_name) for factor in (layer.A, layer.B)]
    if any(isinstance(factor.data, DTensor) for factor in factors):
        raise NotCarriedError(
            f"the factors of adapter {adapter_name!r} are shared out over devices (tensor parallelism): every process "
            "must hold them whole"
        )
    heads = [head.modules_to_save[adapter_name] for head in wrapped_heads(model).values() if adapter_name in
             head.modules_to_save]  # fmt: skip
    carried = {id(parameter) for parameter in factors}
    carried |= {id(parameter) for head in heads for parameter in head.parameters()}
    others = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in carried]
    if others:
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise NotCarriedError(
            f"parameters are trained that an export of adapter {adapter_name!r} does not carry: {shown}; freeze them, "
            "or name their modules in modules_to_save"
        )
