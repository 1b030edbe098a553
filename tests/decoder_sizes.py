"""Layers of a small decoder, and what records have of an adapter of given ranks on them."""

import random
from collections.abc import Mapping
from typing import Any

from prunedlora.servers.served_slot import HALF_BYTES, served_slot, slot_bytes

BLOCK = {"q_proj": (8, 8), "k_proj": (8, 4), "v_proj": (8, 4), "o_proj": (8, 8)}
WIDTHS = {f"model.layers.{block}.self_attn.{name}": widths for block in range(3) for name, widths in BLOCK.items()} | {
    f"model.layers.{block}.mlp.up_proj": (8, 32) for block in range(3)
}
HEADER = 200
"""Bytes of a file beside its numbers."""


def candidate_fields(ranks: Mapping[str, int]) -> dict[str, Any]:
    """Fields of a Candidate without a head, of these ranks by the ends of names: "0.q_proj", or "*.q_proj" for all."""
    found = {name: rank for end, rank in ranks.items() for name in names_of(end)}
    params = sum(rank * sum(WIDTHS[name]) for name, rank in found.items())
    most = max(found.values(), default=0)
    slot = served_slot(most)
    return {
        "ranks": found,
        "adapter_params": params,
        "adapter_bytes": 4 * params,
        "file_bytes": 4 * params + HEADER if params else 0,
        "max_rank": most,
        "served_slot": slot,
        "served_slot_bytes": None if slot is None else slot_bytes(WIDTHS, slot, HALF_BYTES),
        "head_params": 0,
    }


def names_of(end: str) -> list[str]:
    """Full names of what "0.q_proj" or "*.q_proj" stands for."""
    block, _, module = end.rpartition(".")
    return [name for name in WIDTHS if name.endswith(f".{module}") and (block == "*" or f".layers.{block}." in name)]


def random_ranks(rng: random.Random, most: int = 20) -> dict[str, int]:
    """Of q, v and sometimes o; equal, or not, some 0."""
    modules = rng.choice([("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj"), ("q_proj", "v_proj", "o_proj")])
    names = [f"{block}.{module}" for block in range(3) for module in modules]
    if rng.random() < 0.3:
        return dict.fromkeys(names, rng.randint(1, most))
    ranks = {name: rng.choice([0, 1, 2, 3, 8, most]) for name in names}
    return ranks if any(ranks.values()) else ranks | {names[0]: 1}
