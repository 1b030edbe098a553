"""Which LoRA layers can be pruned under a `transformers.Trainer`; what can be exported, adapters/carried.py asks."""

import torch
from torch import nn

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.integrations.trainer_checks import CallbackError


def check_layers(model: nn.Module, layers: list[AdaptedLayer], adapter_name: str) -> None:
    """`layers`: those of the model that carry the adapter. Raises CallbackError."""
    if not layers:
        raise CallbackError(
            f"the model has no LoRA layers of an adapter {adapter_name!r}: wrap it with "
            "get_peft_model(model, LoraConfig(...)), or give SFTTrainer a peft_config"
        )
    for layer in layers:
        if variant := getattr(layer.module, "lora_variant", {}).get(adapter_name):
            kind = type(variant).__name__
            raise CallbackError(f"layer {layer.name!r} is of the LoRA variant {kind}; only plain LoRA can be pruned")
        if not isinstance(layer.lora_A, nn.Linear):
            kind = type(layer.lora_A).__name__
            raise CallbackError(f"layer {layer.name!r} has factors of type {kind}; only linear layers can be pruned")
        if layer.lora_B.bias is not None:
            raise CallbackError(f"layer {layer.name!r} has a bias on B (lora_bias), which an export cannot carry")
        if not layer.A.requires_grad:
            raise CallbackError(f"layer {layer.name!r}: adapter {adapter_name!r} is not trained (requires_grad is off)")
        if layer.A.dtype == torch.float16:
            raise CallbackError(
                f"layer {layer.name!r} has factors in float16, whose gradients overflow: give the adapter float32 or "
                "bfloat16 (PEFT does by itself, unless autocast_adapter_dtype=False)"
            )
    for name, module in model.named_modules():
        if adapter_name in getattr(module, "lora_embedding_A", ()):
            raise CallbackError(f"{name!r} is an embedding with LoRA; only linear layers can be pruned")
