"""Where an adapter's components are: ranks by block of the transformer and by kind of module."""

import re
from collections.abc import Mapping

OUTSIDE = "outside"
"""Row of the modules that stand outside of all blocks."""


def rank_map(ranks: Mapping[str, int]) -> tuple[list[str], list[str], list[list[int | None]]]:
    """(blocks, kinds, rank by block and kind or None where there is no such module) from full module names.

    A name's first number is its block, what follows is the kind: `layers.3.self_attn.q_proj` is `self_attn.q_proj` in
    block 3. Blocks by number, kinds in their order within a block.
    """
    parts = {name: _parts(name) for name in ranks}
    blocks = sorted({block for block, _ in parts.values()}, key=lambda block: (block == OUTSIDE, block.zfill(6)))
    kinds = list(dict.fromkeys(kind for _, kind in parts.values()))
    table: list[list[int | None]] = [[None] * len(kinds) for _ in blocks]
    for name, (block, kind) in parts.items():
        table[blocks.index(block)][kinds.index(kind)] = ranks[name]
    return blocks, kinds, table


def _parts(name: str) -> tuple[str, str]:
    found = re.search(r"\.(\d+)\.(.+)$", name)
    return (found[1], found[2]) if found else (OUTSIDE, name)
