"""What loaders make of an adapter folder, each a pure function of (configuration, tensors) → layer → update, (out, in).

After their sources, where they say how a rank, an alpha and an absent layer are read (prunedlora/servers/).
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

Pairs = dict[str, tuple[Tensor, Tensor]]
Updates = dict[str, Tensor]
BLOCK = 16


class RefusedError(Exception):
    """The loader does not take the adapter."""


def read(folder: Path) -> tuple[dict[str, Any], Pairs]:
    """The configuration, and A and B by full name."""
    tensors = load_file(folder / "adapter_model.safetensors")
    prefix = "base_model.model."
    names = [name[len(prefix) : -len(".lora_A.weight")] for name in tensors if name.endswith(".lora_A.weight")]
    pairs = {n: (tensors[f"{prefix}{n}.lora_A.weight"], tensors[f"{prefix}{n}.lora_B.weight"]) for n in names}
    return json.loads((folder / "adapter_config.json").read_text()), pairs


def vllm_without_patterns(config: dict[str, Any], pairs: Pairs, num_blocks: int) -> Updates:
    return {name: config["lora_alpha"] / config["r"] * (B @ A) for name, (A, B) in pairs.items()}


def llama_cpp(config: dict[str, Any], pairs: Pairs, num_blocks: int) -> Updates:
    """llama-adapter.h: `rank = b->ne[0]; scale = alpha ? adapter_scale * alpha / rank : adapter_scale`."""
    return {name: config["lora_alpha"] / len(A) * (B @ A) for name, (A, B) in pairs.items()}


def sglang(config: dict[str, Any], pairs: Pairs, num_blocks: int) -> Updates:
    """lora_config.py refuses patterns; lora.py (normalize_qkv_proj, normalize_gate_up_proj) takes what it fuses from
    every block in which one of it is."""
    if any(rank != config["r"] for rank in config["rank_pattern"].values()):
        raise RefusedError("rank_pattern")
    for name in pairs:
        for group in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
            block, _, last = name.rpartition(".")
            if last in group and any(f"{block}.{other}" not in pairs for other in group):
                raise RefusedError(f"{name} is not whole")
    return {name: config["lora_alpha"] / config["r"] * (B @ A) for name, (A, B) in pairs.items()}


def lorax(config: dict[str, Any], pairs: Pairs, num_blocks: int) -> Updates:
    """adapters/lora.py (LoraWeights.load): type by type; a type that a block lacks is dropped, ranks are stacked and
    padded, and the padded rank is what the next type's scaling divides by."""
    types: dict[str, dict[int, str]] = defaultdict(dict)
    for name in pairs:
        number = re.search(r"\.(\d+)\.", name)
        assert number is not None
        types[name[: number.start()] + name[number.end() :]][int(number[1])] = name
    rank, updates = config["r"], {}
    for blocks in types.values():
        if len(blocks) < num_blocks:
            continue
        if len({len(pairs[name][0]) for name in blocks.values()}) > 1:
            raise RefusedError("torch.stack of unequal ranks")
        scaling = config["lora_alpha"] / rank
        updates |= {name: scaling * (pairs[name][1] @ pairs[name][0]) for name in blocks.values()}
        rank = -(-len(pairs[next(iter(blocks.values()))][0]) // BLOCK) * BLOCK
    return updates


LOADERS = {
    "vLLM": vllm_without_patterns,
    "llama.cpp (Ollama, LM Studio)": llama_cpp,
    "SGLang": sglang,
    "LoRAX, TGI": lorax,
}
"""By their titles in prunedlora/servers/known.py."""


def is_right(loader: str, folder: Path, expected: Updates, num_blocks: int) -> bool:
    """Whether a loader comes to the updates, exactly but for rounding in float64; what it adds must be zero."""
    try:
        found = LOADERS[loader](*read(folder), num_blocks)
    except RefusedError:
        return False
    zero = all(not update.any() for name, update in found.items() if name not in expected)
    return zero and all(
        name in found and torch.allclose(found[name], update, rtol=0, atol=1e-12) for name, update in expected.items()
    )
