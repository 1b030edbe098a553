"""SGLang: one rank for all of an adapter, and projections stacked block by block as it fuses them.

- A pattern that changes a value is refused at load (main: lora_config.py, `rank_overrides`); 0.5.23 reads no patterns,
  and fails at unequal ranks in its memory pool, when the adapter is first used, by an assertion of the shape.
- What it fuses: a block with q, k or v needs q and v (an absent k becomes zeros), a block with up needs gate (an absent
  up becomes zeros). Anything else ends in an error: q alone at load, k or v alone and up alone at first use. Older
  versions need every part.
- Every other layer that a block lacks is zeros.
- Scaling is `lora_alpha / r`, which is 1 here.
- Modules that were trained whole are dropped without a word: names outside of the blocks other than embed_tokens and
  lm_head are passed over, and these two unless they are target modules.
- A rank above `--max-lora-rank`, or a module that `--lora-target-modules` lacks, is refused; both are worked out from
  the adapters that are there at the start (`--lora-paths`).

https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/lora/lora.py (_process_weight, normalize_qkv_proj,
normalize_gate_up_proj), mem_pool.py (can_support, load_lora_weight_to_buffer), lora_manager.py (validate_new_adapter).
Read in the wheel 0.5.23 (2026-10-30) and in main's lora_config.py.
"""

from collections.abc import Collection, Iterator

from prunedlora.servers.adapter_shape import AdapterShape
from prunedlora.servers.decoder_layers import PROJECTIONS, STACKED_PROJECTIONS, block, projection
from prunedlora.servers.treatment import Refused, Treatment, as_trained, no_peft_folder, not_looked_at, without_head

NEEDED_WITH = {
    "q_proj": ("v_proj",),
    "k_proj": ("q_proj", "v_proj"),
    "v_proj": ("q_proj",),
    "up_proj": ("gate_proj",),
}
"""Projection → those that its block must have beside it."""


def treat(shape: AdapterShape) -> Treatment:
    if (other := no_peft_folder(shape)) is not None:
        return other
    if not shape.is_equal:
        return Refused("refuses unequal ranks")
    if (unknown := not_looked_at(shape, (*PROJECTIONS, *STACKED_PROJECTIONS))) is not None:
        return unknown
    if lacking := next(lacking_parts(shape.ranks), None):
        return Refused(f"fails where a block has {lacking[0]} and not {lacking[1]}")
    modules = ", ".join(each for each in (*PROJECTIONS, *STACKED_PROJECTIONS) if each in _projections(shape))
    needs = (
        f"it is there at the start (--lora-paths), or --max-lora-rank is {shape.rank} or more and "
        f"--lora-target-modules has {modules}"
    )
    return without_head(shape, as_trained(shape).factors, needs)


def lacking_parts(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """(projection, the one that its block lacks beside it), by the order of `names`."""
    for name in names:
        for other in NEEDED_WITH.get(projection(name), ()):
            if f"{block(name)}.{other}" not in names:
                yield projection(name), other


def _projections(shape: AdapterShape) -> set[str]:
    return {projection(name) for name in shape.ranks}
