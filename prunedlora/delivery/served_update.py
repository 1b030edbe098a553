"""The update that a server would apply for an exported PEFT folder: its own steps, done on the configuration and the
tensors as it reads them.

Nothing here knows the rules of prunedlora/servers/, where the sources are linked: a test holds both against each other
and against PEFT.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from torch import Tensor

from prunedlora.delivery.adapter_as_read import AdapterAsRead, ServerError, Updates, read_adapter
from prunedlora.delivery.stacked_update import lorax, sglang
from prunedlora.servers.served_slot import SERVED_SLOTS
from prunedlora.servers.treatment import Refused


def served_update(folder: Path, server: str, base_layers: Collection[str]) -> Updates | Refused:
    """What `server`, a key of STEPS, makes of the adapter in `folder`, or how it fails.

    `base_layers`: full names of the base model's linear layers. Raises FileNotFoundError without the folder's two
    files, KeyError for another server.
    """
    steps = STEPS[server]
    try:
        return steps(read_adapter(folder, base_layers))
    except ServerError as error:
        return Refused(str(error))


def peft(adapter: AdapterAsRead) -> Updates:
    """Every layer is made with the rank of its pattern, and scaled by its alpha over it."""
    updates = dict(adapter.whole)
    for name, (A, B) in adapter.pairs.items():
        rank = _by_pattern(adapter, "rank_pattern", name, "r")
        if rank != len(A):
            raise ServerError(f"size mismatch for {name}: {len(A)} in the file, {rank} in the model")
        updates[name] = _by_pattern(adapter, "alpha_pattern", name, "lora_alpha") / rank * (B @ A)
    return updates


def vllm_older(adapter: AdapterAsRead) -> Updates:
    """One scaling for all, in slots of the smallest --max-lora-rank that `r` fits into."""
    if adapter.config["modules_to_save"]:
        raise ServerError("vLLM only supports modules_to_save being None.")
    slot = _slot(adapter.config["r"])
    return {name: _in_slot(A, B * adapter.scaling, slot) for name, (A, B) in adapter.pairs.items()}


def vllm_newer(adapter: AdapterAsRead) -> Updates:
    """Scalings by patterns, slots by the largest of them; heads of classifiers."""
    heads = adapter.config["modules_to_save"] or []
    if others := [name for name in heads if name not in ("classifier", "score")]:
        raise ServerError(f"Unsupported modules_to_save: {others}")
    slot = _slot(max([adapter.config["r"], *adapter.config["rank_pattern"].values()]))
    updates = dict(adapter.whole)
    for name, (A, B) in adapter.pairs.items():
        alpha = _by_pattern(adapter, "alpha_pattern", name, "lora_alpha")
        updates[name] = _in_slot(A, B * (alpha / _by_pattern(adapter, "rank_pattern", name, "r")), slot)
    return updates


def llama_cpp(adapter: AdapterAsRead) -> Updates:
    """convert_lora_to_gguf.py writes lora_alpha; get_scale divides it by the tensor's own rank, unless it is 0."""
    if adapter.whole:
        raise ServerError(f"Unexpected name '{next(iter(adapter.whole))}': Not a lora_A or lora_B tensor")
    alpha = float(adapter.config["lora_alpha"])
    return {name: (alpha / B.shape[1] if alpha else 1.0) * (B @ A) for name, (A, B) in adapter.pairs.items()}


def tensorrt_llm(adapter: AdapterAsRead) -> Updates:
    """load_from_hf: lora_alpha over the rank that A has."""
    if others := [name for name in adapter.whole if "lm_head" not in name and "embed_tokens" not in name]:
        raise ServerError(f"unsupported key {others[0]} from HF LoRA weights")
    alpha = float(adapter.config["lora_alpha"])
    return {name: B * (alpha / len(A)) @ A for name, (A, B) in adapter.pairs.items()}


def mlx(adapter: AdapterAsRead) -> Updates:
    """load_adapters reads a configuration of its own, with `num_layers` and `lora_parameters`."""
    raise ServerError("no attribute 'num_layers'")


def _by_pattern(adapter: AdapterAsRead, field: str, name: str, otherwise: str) -> float:
    """Of the first pattern that matches the end of a name after a dot, or all of it."""
    patterns: Mapping[str, float] = adapter.config[field]
    found = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name))
    return next(found, adapter.config[otherwise])


def _slot(rank: int) -> int:
    slot = next((each for each in SERVED_SLOTS if each >= rank), None)
    if slot is None:
        raise ServerError(f"LoRA rank {rank} is greater than max_lora_rank {SERVED_SLOTS[-1]}.")
    return slot


def _in_slot(A: Tensor, B: Tensor, slot: int) -> Tensor:
    """B A as it comes out of a slot (slot, in), (out, slot) of zeros that they were copied into."""
    slot_A, slot_B = A.new_zeros(slot, A.shape[1]), B.new_zeros(B.shape[0], slot)
    slot_A[: len(A)], slot_B[:, : B.shape[1]] = A, B
    return slot_B @ slot_A


STEPS: Mapping[str, Callable[[AdapterAsRead], Updates]] = {
    "peft": peft,
    "vllm": vllm_newer,
    "vllm 0.16": vllm_older,
    "sglang": sglang,
    "llama.cpp": llama_cpp,
    "lorax": lorax,
    "tensorrt-llm": tensorrt_llm,
    "mlx": mlx,
}
"""Servers by their names in servers/known.py, vLLM in both of its behaviours."""
