"""The updates of servers that stack an adapter's factors before they apply them: SGLang over the projections that it
fuses, LoRAX and TGI over the blocks. Sources: prunedlora/servers/sglang.py, lorax.py."""

import torch
from torch import Tensor

from prunedlora.delivery.adapter_as_read import AdapterAsRead, ServerError, Updates

ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""LoRAX's ADAPTER_LAYERS."""
FUSED: tuple[tuple[str, ...], ...] = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""What SGLang keeps in one matrix."""
KERNELS = (8, 16, 32, 64, 96, 128)


def sglang(adapter: AdapterAsRead) -> Updates:
    """normalize_qkv_proj and normalize_gate_up_proj, block by block, then the memory pool at the rank `r`."""
    rank = adapter.config["r"]
    if any(other != rank for other in adapter.config["rank_pattern"].values()):
        raise ServerError("rank_pattern changes a rank")
    updates: Updates = {}
    for prefix in dict.fromkeys(name.rpartition(".")[0] for name in adapter.pairs):
        weights = {
            name.removeprefix(f"{prefix}."): pair
            for name, pair in adapter.pairs.items()
            if name.startswith(f"{prefix}.")
        }
        for fused in FUSED:
            parts = {last: weights.pop(last) for last in fused if last in weights}
            updates |= {f"{prefix}.{last}": update for last, update in _fused(parts, fused, rank).items()}
        updates |= {f"{prefix}.{last}": B @ A for last, (A, B) in weights.items()}
    return {name: adapter.scaling * update for name, update in updates.items()}


def _fused(present: dict[str, tuple[Tensor, Tensor]], fused: tuple[str, ...], rank: int) -> Updates:
    """The updates of the parts of one fused layer, cut out of its stacked factors again; {} where it has none."""
    if not present:
        return {}
    first = fused[0]
    like = fused[-1] if len(fused) > 2 else first  # an absent k takes the shape of v, an absent up that of gate
    if first not in present or like not in present:
        raise ServerError(f"{' and '.join(present)} without {first if first not in present else like}")
    zeros = tuple(torch.zeros_like(factor) for factor in present[like])
    pairs = [present.get(part, zeros) for part in fused]
    stacked_A, stacked_B = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
    if stacked_A.shape[0] != len(fused) * rank:
        raise ServerError(f"LoRA buffer shape {len(fused) * rank} does not match weight shape {stacked_A.shape[0]}")
    updates: Updates = {}
    row = 0
    for number, (part, pair) in enumerate(zip(fused, pairs, strict=True)):
        A = stacked_A[number * rank : (number + 1) * rank]
        updates[part] = stacked_B[row : (row := row + len(pair[1]))] @ A
    return updates


def lorax(adapter: AdapterAsRead) -> Updates:
    """LoraWeights.load, type by type over all blocks; the padded rank takes the place of `r` for the next type."""
    updates: Updates = {}
    r = adapter.config["r"]
    for kind in ORDER:
        names = [name for name in adapter.base_layers if name.endswith(f".{kind}")]
        if not names or any(name not in adapter.pairs for name in names):
            continue
        scaling = adapter.config["lora_alpha"] / r
        factors = [(_padded(A), _padded((B * scaling).T)) for A, B in (adapter.pairs[name] for name in names)]
        r = len(factors[0][0])
        if any(len(A) != r for A, _ in factors):
            raise ServerError("stack expects each tensor to be equal size")
        if r <= KERNELS[-1] and r not in KERNELS:
            raise ServerError(f"No suitable kernel, rank {r}")
        stacked_A, stacked_B = (torch.stack([pair[side] for pair in factors]) for side in (0, 1))
        updates |= {name: B.T @ A for name, A, B in zip(names, stacked_A, stacked_B, strict=True)}
    return updates


def _padded(factor: Tensor) -> Tensor:
    """(rank, width) with rows of zeros below, as pad_rank has them for one GPU."""
    rank = len(factor)
    rows = 8 if rank <= 8 else (rank + 15) // 16 * 16
    return torch.cat([factor, factor.new_zeros(rows - rank, factor.shape[1])])
