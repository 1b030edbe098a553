"""An exported folder in another form: padded to a server's slot, in another dtype, or merged into its base."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from prunedlora.adapters.attach import load
from prunedlora.adapters.export import CONFIG_NAME, WEIGHTS_NAME

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class RepackError(ValueError):
    """A form that the adapter cannot take; the message names the layer."""


def repack(folder: Path, *, rank: int | None, dtype: str | None) -> None:
    """Rewrites an exported folder: every layer padded with zeros to `rank`, every tensor in `dtype` (a key of DTYPES).

    Padding changes nothing but the size: the added rows of A meet columns of B that are zero, and alpha stays the rank.
    Raises RepackError for a layer whose rank is above `rank`.
    """
    state = load_file(folder / WEIGHTS_NAME)
    if rank is not None:
        for name, tensor in state.items():
            if ".lora_A." in name and len(tensor) > rank:
                raise RepackError(f"{name.removesuffix('.lora_A.weight')} has rank {len(tensor)}, above {rank}")
        state = {name: _padded(name, tensor, rank) for name, tensor in state.items()}
        config = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
        config |= {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}}
        (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if dtype is not None:
        state = {name: tensor.to(DTYPES[dtype]) for name, tensor in state.items()}
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})


def _padded(name: str, tensor: Tensor, rank: int) -> Tensor:
    if ".lora_A." in name:
        return pad(tensor, (0, 0, 0, rank - tensor.shape[0]))
    return pad(tensor, (0, rank - tensor.shape[1])).contiguous() if ".lora_B." in name else tensor


def merge(base: nn.Module, folder: Path) -> Any:
    """The base model with the adapter's update in its weights and its head in place. `base` is spent after it."""
    return load(base, folder, "merged").merge_and_unload()
