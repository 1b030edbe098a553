"""Linear modules that PEFT cannot adapt in some models; known before anything is attached."""

from collections.abc import Collection
from importlib.util import find_spec

from peft import LoraConfig
from torch import nn

MAMBA = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
"""Model types in which PEFT refuses `out_proj`.
https://github.com/huggingface/peft/blob/main/src/peft/tuners/tuners_utils.py (_check_lora_target_modules_mamba)"""
CONVERSION = "peft.utils.transformers_weight_conversion"
"""Where PEFT for transformers 5 reads target modules as names of the architecture of transformers 4."""


def refused_by_peft(model: nn.Module, names: Collection[str]) -> dict[str, str]:
    """Those of `names` (full names of linear modules) that no adapter can be put on, each with the reason.

    Mamba's kernels use the weight of out_proj without calling it. Of a mixture whose experts transformers stacks in one
    tensor, PEFT takes the names that experts had (gate_proj, up_proj, down_proj) for those tensors, wherever they
    stand: a shared expert or a plain block of that name is not adapted, neither here nor where the adapter is loaded.
    """
    reasons = {ending: _reason(model, ending) for ending in sorted({_ending(name) for name in names})}
    return {name: reason for name in names if (reason := reasons[_ending(name)]) is not None}


def _ending(name: str) -> str:
    return name.rpartition(".")[2]


def _reason(model: nn.Module, ending: str) -> str | None:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in MAMBA and ending == "out_proj":
        return f"is used by the kernels of {kind} without being called, and PEFT refuses it"
    if kind is None or find_spec(CONVERSION) is None:
        return None
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    taken = f"has a name that PEFT takes for the stacked experts of {kind}"
    config = LoraConfig(target_modules=[ending])
    try:
        convert_peft_config_for_transformers(config, model=model, conversions=None)
    except ValueError:  # one of two that are stacked in one tensor
        return taken
    return None if ending in (config.target_modules or ()) else taken
