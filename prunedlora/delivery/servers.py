"""What each loader makes of an adapter as it is handed over: the update as it was trained, or something else.

Read in the loaders' sources (2026-08): what they do with ranks that differ, and with layers that an adapted type lacks
in some blocks, which is what pruning leaves.

- PEFT reads the patterns. vLLM ignored them (one alpha / r for all, which is 1 here) or reads them; what is absent is a
  zero slice. TensorRT-LLM reads the ranks of the tensors.
- SGLang refuses patterns, and stacks the projections that it fuses, block by block.
- llama.cpp, and what is built on it, scales each tensor by lora_alpha over its own rank and reads no patterns.
  https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.h (get_scale)
- LoRAX and TGI stack a type's layers over all blocks, drop the type where one is absent, and pad ranks to a block of
  their kernels, from which the scaling is worked out.
- mlx-lm has a format of its own.
"""

from collections.abc import Collection

from prunedlora.delivery.form import Form
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.absent_layers import absent_layers, fused_with

RIGHT = "right"
LORAX_BLOCK = 16
HEAD = "takes no head"
UNKNOWN = "not known"


def servers(record: TrialRecord, candidate: Candidate, form: Form, refused_by_vllm: Collection[str]) -> dict[str, str]:
    """Loader → RIGHT, or what goes wrong, for an adapter (not merged) in `form`. `refused_by_vllm`: why it would."""
    ranks = {name: rank for name, rank in candidate.ranks.items() if rank}
    largest = form.rank or candidate.max_rank
    equal = form.rank is not None or len(set(ranks.values())) == 1
    head, absent = bool(candidate.head_params), _absent(record, ranks, form)
    found = {
        "PEFT": RIGHT,
        "vLLM": f"refuses it: {'; '.join(refused_by_vllm)}" if refused_by_vllm else RIGHT,
        "TensorRT-LLM": UNKNOWN if head or absent or absent is None else RIGHT,
        "SGLang": RIGHT,
        "llama.cpp (Ollama, LM Studio)": HEAD if head else RIGHT if equal else "loads it and scales it wrongly",
        "LoRAX, TGI": RIGHT,
        "MLX": "takes merged models",
    }
    if head:
        found |= {"SGLang": HEAD, "LoRAX, TGI": UNKNOWN}
    elif not equal:
        found |= {"SGLang": "refuses unequal ranks", "LoRAX, TGI": "fail at unequal ranks"}
    elif absent is None:
        found |= {"SGLang": UNKNOWN, "LoRAX, TGI": UNKNOWN}
    else:
        if any(other in ranks for name in absent for other in fused_with(name)):
            found["SGLang"] = "fails where a block has q, k and v, or gate and up, in part"
        if absent:
            found["LoRAX, TGI"] = "drop the types of layers that a block lacks"
        elif largest % LORAX_BLOCK:
            found["LoRAX, TGI"] = f"need a rank that is a multiple of {LORAX_BLOCK}"
    return found


def servers_sentence(found: dict[str, str], form: Form) -> str:
    """The same for people, with the form that serves more of them."""
    right = ", ".join(name for name, verdict in found.items() if verdict == RIGHT)
    wrong = {name: verdict for name, verdict in found.items() if verdict not in (RIGHT, UNKNOWN)}
    unknown = "; ".join(name for name, verdict in found.items() if verdict == UNKNOWN)
    text = f"It is applied as it was trained by {right}."
    if wrong:
        text += f" Not by {'; '.join(f'{name} ({reason})' for name, reason in wrong.items())}."
    if unknown:
        text += f" Not known of {unknown}."
    served_otherwise = any(
        verdict not in (RIGHT, HEAD) for name, verdict in found.items() if name not in ("vLLM", "MLX")
    )
    if form.rank is None and served_otherwise and HEAD not in found.values():
        text += (
            f" For these `prunedlora export --uniform` pads it to one rank with no layer absent (LoRAX, TGI: "
            f"`--uniform-rank`, a multiple of {LORAX_BLOCK}), and `--merge` gives a whole model."
        )
    return text


def _absent(record: TrialRecord, present: Collection[str], form: Form) -> dict[str, tuple[int, int]] | None:
    """Layers that the adapter lacks in this form; None where the record does not say."""
    if form.rank is not None:
        return {}
    return None if record.layer_widths is None else absent_layers(present, record.layer_widths)
