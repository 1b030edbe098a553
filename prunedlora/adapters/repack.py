"""An exported folder in another form: of one rank in all layers, in another dtype, or merged into its base."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from prunedlora.adapters.attach import load
from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME
from prunedlora.adapters.targets import exact_selection
from prunedlora.servers.absent_layers import absent_layers
from prunedlora.servers.served_slot import Widths

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
A_SUFFIX, B_SUFFIX = ".lora_A.weight", ".lora_B.weight"


class RepackError(ValueError):
    """A form that the adapter cannot take; the message names the layer."""


def make_uniform(folder: Path, rank: int, widths: Widths) -> None:
    """Rewrites an exported folder so that every layer has rank `rank` and none of an adapted type is absent
    (absent_layers.py): what is missing is zeros, and the configuration has no patterns.

    Changes nothing but the size: the added rows of A meet columns of B that are zero. With one rank r = lora_alpha in
    the configuration and in every tensor, loaders that scale by `lora_alpha / r`, by `lora_alpha` over a tensor's own
    rank (llama.cpp), or that stack layers (LoRAX, SGLang) all come to the update as it was trained.
    `widths`: (in, out) of every linear layer of the base model. Raises RepackError for a layer whose rank is above
    `rank`.
    """
    state = load_file(folder / WEIGHTS_NAME)
    present = [name.removeprefix(KEY_PREFIX).removesuffix(A_SUFFIX) for name in state if name.endswith(A_SUFFIX)]
    for name in present:
        if (own := len(state[f"{KEY_PREFIX}{name}{A_SUFFIX}"])) > rank:
            raise RepackError(f"{name} has rank {own}, above {rank}")
    dtype = state[f"{KEY_PREFIX}{present[0]}{A_SUFFIX}"].dtype
    state = {name: _padded(name, tensor, rank) for name, tensor in state.items()}
    added = absent_layers(present, widths)
    for name, (d_in, d_out) in added.items():
        state[f"{KEY_PREFIX}{name}{A_SUFFIX}"] = torch.zeros(rank, d_in, dtype=dtype)
        state[f"{KEY_PREFIX}{name}{B_SUFFIX}"] = torch.zeros(d_out, rank, dtype=dtype)
    config = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
    config |= {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}}
    # The base's modules are those of the slots, and what the export had to exclude by name.
    excluded = [re.sub(r"\\(.)", r"\1", name) for name in (config["exclude_modules"] or "").split("|") if name]
    config |= exact_selection([*widths, *excluded], sorted([*present, *added]))
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _save(state, folder)


def store_as(folder: Path, dtype: str) -> None:
    """Rewrites an exported folder with every tensor in `dtype`, a key of DTYPES."""
    _save({name: tensor.to(DTYPES[dtype]) for name, tensor in load_file(folder / WEIGHTS_NAME).items()}, folder)


def _save(state: dict[str, Tensor], folder: Path) -> None:
    save_file(dict(sorted(state.items())), folder / WEIGHTS_NAME, metadata={"format": "pt"})


def _padded(name: str, tensor: Tensor, rank: int) -> Tensor:
    if name.endswith(A_SUFFIX):
        return pad(tensor, (0, 0, 0, rank - tensor.shape[0]))
    return pad(tensor, (0, rank - tensor.shape[1])).contiguous() if name.endswith(B_SUFFIX) else tensor


def merge(base: nn.Module, folder: Path) -> Any:
    """The base model with the adapter's update in its weights and its head in place. `base` is spent after it.

    Where the output embedding is the input embedding too (tied) and the adapter changes one of them alone, the merged
    model has both: it is larger by one, and its config says that they are not tied.
    """
    model = load(base, folder, "merged")
    _untie(model)
    return model.merge_and_unload()


def _untie(model: Any) -> None:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or not (_is_changed(head) or _is_changed(embedding)):
        return
    own = _without_wrapper(head)
    if own.weight is not _without_wrapper(embedding).weight:
        return
    own.weight = nn.Parameter(own.weight.detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _is_changed(module: nn.Module) -> bool:
    return hasattr(module, "base_layer") or hasattr(module, "modules_to_save")


def _without_wrapper(module: Any) -> Any:
    return getattr(module, "base_layer", None) or getattr(module, "original_module", None) or module
