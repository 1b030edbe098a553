"""How long an input a model takes."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from prunedlora.training.model import ModelSettings, load_model_config, load_without_weights

TABLES = ("position_embeddings", "embed_positions", "positions_embed", "wpe")
"""Last part of the name of a table with one row per position."""


def position_limit(settings: ModelSettings, auto_model: str) -> int | None:
    """Longest input in tokens that the architecture takes, where it states or has one.

    Tables of positions are counted in the model, without weights: RoBERTa and its kin begin behind the padding token's
    number and take two tokens fewer than their configuration says. Raises ModelError.
    """
    config = load_model_config(settings)
    stated = getattr(config, "max_position_embeddings", None)
    if not stated or stated < 0:  # XLNet says -1 for none
        return None
    if getattr(config, "rope_parameters", None) or getattr(config, "rope_theta", None):
        return int(stated)  # rotary: no table, and the models are large
    counted = table_positions(load_without_weights(settings, auto_model, {}))
    return int(stated) if counted is None else min(int(stated), counted)


def table_positions(model: nn.Module) -> int | None:
    """Number of positions of the shortest table of positions in `model`, None where it has none."""
    return min(_tables(model), default=None)


def _tables(model: nn.Module) -> Iterator[int]:
    for name, module in model.named_modules():
        if name.rpartition(".")[2] not in TABLES or not isinstance(module, nn.Embedding):
            continue  # computed tables grow
        offset: Any = getattr(module, "offset", None)  # BART, OPT: rows in front of the first position
        if offset is None:
            offset = 0 if module.padding_idx is None else module.padding_idx + 1  # RoBERTa: behind the padding row
        yield int(module.num_embeddings) - int(offset)
