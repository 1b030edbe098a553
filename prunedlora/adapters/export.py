"""Write an adapter as a plain PEFT LoRA folder, which serves without prunedlora (methods.md 1.6)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.plain import PlainLayer, plain_layers
from prunedlora.adapters.targets import exact_selection

KEY_PREFIX = "base_model.model."
"""What PEFT puts before a module's name in the weights file."""
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
LABELS_FILE = "labels.json"
"""Beside an adapter with classes: number of the logit → name of its class, as `id2label` of a model's configuration;
PEFT's own has no place for it."""


class AllRanksZeroError(ValueError):
    """No component is left in any layer: there is no adapter to export."""


def export(
    model: PeftModel,
    adapter_name: str,
    folder: Path,
    base_model_name: str,
    base_revision: str | None = None,
    *,
    layers: Sequence[PlainLayer] | None = None,
) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` into `folder` (made if missing).

    Whatever scales is folded into B (adapters/plain.py), and every layer's alpha is its rank, so that the scaling is 1
    in a loader that knows the patterns (PEFT, vLLM since 2026) and in one that knows a single `lora_alpha / r` (vLLM
    before). It is not where `lora_alpha` is divided by each tensor's own rank (llama.cpp after its converter,
    TensorRT-LLM), and SGLang and LoRAX want one rank: for these there is repack.make_uniform. What each server makes of
    each form is in prunedlora/servers/, the update itself in delivery/served_update.py. Layers of rank 0 are left out;
    the head is saved whole. `base_model_name` is what a loader gets the base model by, `base_revision` its revision on
    the Hub (None: the default branch). `layers`: what is written in the place of the model's own (components that are
    held at zero left out, say); None: those. The model is not changed.

    Raises AllRanksZeroError when no layer has a component left.
    """
    layers = plain_layers(model, adapter_name) if layers is None else layers
    present = [layer for layer in layers if layer.rank > 0]
    if not present:
        raise AllRanksZeroError(f"all {len(layers)} layers of adapter {adapter_name!r} have rank 0; nothing to export")
    base = model.get_base_model()
    # Given as an argument, the state is not checked for empty factors, nor the Hub asked for the vocabulary's size.
    saved: dict[str, Tensor] = get_peft_model_state_dict(
        model, state_dict=model.state_dict(), adapter_name=adapter_name, save_embedding_layers=False
    )
    state = {name: tensor for name, tensor in saved.items() if ".lora_" not in name}  # the head
    for layer in present:
        state[f"{KEY_PREFIX}{layer.name}.lora_A.weight"] = layer.A
        state[f"{KEY_PREFIX}{layer.name}.lora_B.weight"] = layer.B
    heads = model.peft_config[adapter_name].modules_to_save
    config = _plain_config(base, present, heads, base_model_name, base_revision)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in sorted(state.items())},
        folder / WEIGHTS_NAME,
        metadata={"format": "pt"},
    )
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def declare_ranks(model: PeftModel, adapter_name: str) -> None:
    """Makes the model's own PEFT configuration say which ranks its layers have, so that `save_pretrained` writes an
    adapter that loads as it is: scalings as they were at the start, layers of rank 0 left out.

    Changes `model.peft_config` only. Raises AllRanksZeroError when no layer has a component left.
    """
    layers = [layer for layer in adapted_layers(model, adapter_name) if layer.rank > 0]
    if not layers:
        raise AllRanksZeroError(f"all layers of adapter {adapter_name!r} have rank 0; nothing to save")
    config = model.peft_config[adapter_name]
    largest = max(layer.rank for layer in layers)
    names = _own_names(model.get_base_model())
    config.r, config.lora_alpha, config.use_rslora = largest, largest, False
    # PEFT scales by alpha / r: a pattern for every layer keeps s = alpha_i / r_i exactly what it is.
    config.rank_pattern = {"^" + re.escape(layer.name): layer.rank for layer in layers}
    config.alpha_pattern = {"^" + re.escape(layer.name): layer.scaling * layer.rank for layer in layers}
    for field, value in exact_selection(names, [layer.name for layer in layers]).items():
        setattr(config, field, value)


def _plain_config(
    base: nn.Module,
    layers: list[PlainLayer],
    heads: list[str] | None,
    base_model_name: str,
    base_revision: str | None,
) -> dict[str, Any]:
    """The adapter's configuration: r = lora_alpha = largest rank, patterns for the layers of smaller rank."""
    names = _own_names(base)
    largest = max(layer.rank for layer in layers)
    # PEFT matches keys as regular expressions at the end of a name, the first one winning: anchored ones are exact.
    pattern = {"^" + re.escape(layer.name): layer.rank for layer in layers if layer.rank != largest}
    config = LoraConfig(
        task_type=_task_type(base, names, heads or []),
        base_model_name_or_path=base_model_name,
        revision=base_revision,
        r=largest,
        lora_alpha=largest,
        rank_pattern=pattern,
        alpha_pattern=dict(pattern),
        use_rslora=False,
        lora_dropout=0.0,
        modules_to_save=heads,
        fan_in_fan_out=all(layer.is_transposed for layer in layers),
        inference_mode=True,
        **exact_selection(names, [layer.name for layer in layers]),
    )
    # PEFT writes sets in the order of their hashes, which differs between runs.
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}


def _own_names(base: nn.Module) -> list[str]:
    """Names of the base model's own modules, without PEFT's."""
    return [name for name, _ in base.named_modules() if ".lora_" not in name and not name.endswith(".base_layer")]


def _task_type(base: nn.Module, names: list[str], heads: list[str]) -> str | None:
    """PEFT's task type, so that loaders choose the right class; None where that class would expect another head.

    PEFT's class for sequence classification takes modules that end in "classifier" or "score" for saved ones:
    https://github.com/huggingface/peft/blob/main/src/peft/peft_model.py (PeftModelForSequenceClassification)
    """
    kind = type(base).__name__
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        return "CAUSAL_LM"
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values():
        expected = [name for name in names if name.endswith(("classifier", "score"))]
        if all(any(name == head or name.startswith(head + ".") for head in heads) for name in expected):
            return "SEQ_CLS"
    return None
