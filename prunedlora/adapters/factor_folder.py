"""Write an adapter as a plain PEFT LoRA folder from its factors alone, without its base model, and read it back."""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import Parameter

from prunedlora.adapters.existing_weights import FACTOR
from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME, AllRanksZeroError
from prunedlora.adapters.file_layers import AdapterSizes
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.repack import A_SUFFIX, B_SUFFIX
from prunedlora.adapters.targets import exact_selection
from prunedlora.adapters.update_spectrum import Factors, distance, singular_values

ADAPTER = "default"
FLOAT32_TOLERANCE = 1e-6
"""Largest difference of a layer's update from what was to be written, as a share of its norm."""


class NotReadBackError(ValueError):
    """A written folder that PEFT does not load as what was to be written; the message names the layer."""


def write_factors(folder: Path, sizes: AdapterSizes, factors: Sequence[Factors], others: Mapping[str, Tensor]) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` into `folder` (made if missing).

    `factors`: of all `sizes.layers` in order, of whatever ranks, without their scaling. It is folded into B, and every
    layer's alpha is its rank, as in an export (export.py); layers of rank 0 are left out; A and B keep the types of the
    adapter that they come from. `others`: what else the file holds, as it is, by names in the base model. What the
    configuration says otherwise (base model, task, heads) stays.

    Raises AllRanksZeroError when no layer has a component left.
    """
    present = [(layer, *pair) for layer, pair in zip(sizes.layers, factors, strict=True) if len(pair[0])]
    if not present:
        raise AllRanksZeroError(f"all {len(factors)} layers have rank 0; nothing to write")
    state = {f"{KEY_PREFIX}{name}": tensor for name, tensor in others.items()}
    for layer, A, B in present:
        state[f"{KEY_PREFIX}{layer.name}{A_SUFFIX}"] = A.to(layer.dtypes[0])
        state[f"{KEY_PREFIX}{layer.name}{B_SUFFIX}"] = (layer.scaling * B).to(layer.dtypes[1])
    folder.mkdir(parents=True, exist_ok=True)
    # A tensor may be a part of another one, which would be written whole.
    save_file(
        {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in sorted(state.items())},
        folder / WEIGHTS_NAME,
        metadata={"format": "pt"},
    )
    config = _plain_config(sizes, {layer.name: len(A) for layer, A, _ in present})
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_back(folder: Path, sizes: AdapterSizes, factors: Sequence[Factors], others: Mapping[str, Tensor]) -> float:
    """Loads what `write_factors` wrote by PEFT alone, on empty layers of the right shapes, and compares every update.

    Returns the largest ‖written − to be written‖_F / ‖to be written‖_F of a layer. Raises NotReadBackError for one
    above FLOAT32_TOLERANCE, or above twice the rounding of its type where that is coarser; for a layer that is not
    there or not gone; and for another tensor that came back changed.
    """
    model = _loaded(folder, sizes, others)
    found = {layer.name: layer for layer in adapted_layers(model, ADAPTER)}
    wanted = {layer.name for layer, (A, _) in zip(sizes.layers, factors, strict=True) if len(A)}
    if found.keys() != wanted:
        first = sorted(found.keys() ^ wanted)[0]
        raise NotReadBackError(f"{folder}: layer {first!r} {'came' if first in found else 'did not come'} back")
    largest = 0.0
    for layer, pair in zip(sizes.layers, factors, strict=True):
        if layer.name not in found:
            continue
        own = found[layer.name]
        A, B = pair[0].double(), layer.scaling * pair[1].double()
        norm = float(singular_values((A, B), 1.0).norm())
        difference = distance((own.A, own.scaling * own.B.double()), (A, B)) / (norm or 1.0)
        allowed = max(FLOAT32_TOLERANCE, *(2 * torch.finfo(dtype).eps for dtype in layer.dtypes))
        if not difference <= allowed:
            raise NotReadBackError(
                f"{folder}: the update of {layer.name!r} came back {difference:.2g} of its norm away, more than "
                f"{allowed:.2g}"
            )
        largest = max(largest, difference)
    loaded = {name.replace(f".modules_to_save.{ADAPTER}", ""): tensor for name, tensor in _saved(model).items()}
    for name, tensor in others.items():
        if not torch.equal(loaded[name], tensor.to(loaded[name].dtype)):
            raise NotReadBackError(f"{folder}: {name!r} came back changed")
    return largest


def _plain_config(sizes: AdapterSizes, ranks: Mapping[str, int]) -> dict[str, Any]:
    """The adapter's own configuration with r = lora_alpha = largest rank, patterns for the layers of smaller rank, and
    places by full names."""
    largest = max(ranks.values())
    pattern = {"^" + re.escape(name): rank for name, rank in ranks.items() if rank != largest}
    config: dict[str, Any] = sizes.config.to_dict() | {
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": pattern,
        "alpha_pattern": dict(pattern),
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        **exact_selection([layer.name for layer in sizes.layers], list(ranks)),
    }
    # PEFT writes sets in the order of their hashes, which differs between runs.
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}


def _loaded(folder: Path, sizes: AdapterSizes, others: Mapping[str, Tensor]) -> PeftModel:
    """The folder by PEFT, on modules of the adapter's names and shapes that hold no numbers but those of `others`."""
    base = nn.Module()
    for layer in sizes.layers:
        linear = nn.Linear(layer.d_in, layer.d_out, bias=False, device="meta")
        # One number, seen as a whole matrix: PEFT puts the factors where the layer's weight is.
        linear.weight = Parameter(torch.zeros(()).expand(layer.d_out, layer.d_in), requires_grad=False)
        _put(base, layer.name, linear)
    for name, tensor in others.items():
        path, _, own = name.rpartition(".")
        _module_of(base, path).register_parameter(own, Parameter(torch.zeros_like(tensor), requires_grad=False))
    config = PeftConfig.from_pretrained(str(folder))
    config.task_type = None  # PEFT's task classes want a whole model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Conv1D's fan_in_fan_out is not a linear layer's
        return PeftModel.from_pretrained(base, str(folder), adapter_name=ADAPTER, config=config, low_cpu_mem_usage=True)


def _put(base: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    _module_of(base, parent).add_module(child, module)


def _module_of(base: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path, made where it is missing."""
    module = base
    for part in path.split(".") if path else ():
        if not hasattr(module, part):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    return module


def _saved(model: PeftModel) -> dict[str, Tensor]:
    """Tensors of the loaded model but factors, by the names of the file without its prefix."""
    tensors = model.get_base_model().state_dict()
    return {name: tensor for name, tensor in tensors.items() if FACTOR not in name and ".original_module." not in name}
