"""Whether a model is causal: each position sees itself and what goes before, as it must in a model that writes."""

from typing import Any

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

CAUSAL = "AutoModelForCausalLM"
BY_FIELD = {"xlnet": None, "xlm": "causal", "flaubert": "causal"}
"""Model types that transformers lists among the causal models and that see the whole text → the field of their config
that makes them causal; None: nothing does."""
HALF = 4
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Largest change before what was changed, as a share of the change behind, that is rounding."""
LOW_PRECISION_TOLERANCE = 5e-2


def class_problem(config: PretrainedConfig, auto_model: str) -> str | None:
    """Why this architecture cannot be loaded as the task needs it, as far as its config says; None where it may do.

    An encoder that transformers lists among the causal models as well (BERT, RoBERTa, …) is causal as a decoder only.
    """
    kind, own_code = type(config).__name__, getattr(config, "auto_map", None) or {}
    if auto_model in own_code:
        return None
    if auto_model == CAUSAL and getattr(config, "is_encoder_decoder", False):
        return (
            f"{kind} is an encoder-decoder, which reads with one half and writes with the other: generation needs a "
            "language model that is a decoder alone (Llama, Qwen, Gemma, GPT-2, …)"
        )
    if type(config) not in getattr(transformers, auto_model)._model_mapping:
        return f"transformers has no {auto_model} for {kind}, which this task needs"
    if auto_model == CAUSAL and config.model_type in BY_FIELD:
        field = BY_FIELD[config.model_type]
        if field is not None and getattr(config, field, False):
            return None
        return (
            f"{kind} is of a model whose every position sees the whole text: generation needs a causal language model"
        )
    if auto_model != CAUSAL or config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return None
    if getattr(config, "is_decoder", True):
        return None
    return (
        f"{kind} without is_decoder is an encoder, whose every position sees the whole text: generation needs a causal "
        "language model (or model.config_overrides: {is_decoder: true}, which makes it read from left to right only)"
    )


def reads_ahead(model: nn.Module) -> bool:
    """Whether logits change before the tokens that change: two inputs of eight tokens, whose first halves are equal,
    in one batch. Costs one forward pass; the model should be in evaluation mode."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    vocabulary = int(embedding.weight.shape[0])
    # Spread over the vocabulary: rows at its ends are often unused and all the same.
    same, one, other = ([(6 * i + 2 * part + 1) * vocabulary // (6 * HALF) for i in range(HALF)] for part in range(3))
    ids = torch.tensor([same + one, same + other], device=embedding.weight.device)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    changes = (logits[0].double() - logits[1].double()).abs().amax(dim=-1)
    tolerance = TOLERANCES.get(logits.dtype, LOW_PRECISION_TOLERANCE)
    return bool(changes[:HALF].max() > tolerance * changes[HALF:].max())
