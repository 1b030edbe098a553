"""An exported adapter's folder as servers read it: the configuration, factors by layer, what is neither."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME
from prunedlora.adapters.repack import A_SUFFIX, B_SUFFIX

Updates = dict[str, Tensor]
"""Full name of a layer → (out, in), what is added to its weight; name of a tensor of a module that was trained whole →
that tensor, where the server puts it in the place of the base's own."""


class ServerError(Exception):
    """Where a server's code raises."""


@dataclass(frozen=True)
class AdapterAsRead:
    """What is in the folder, and what a server knows of the base model."""

    config: Mapping[str, Any]
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Full name of a layer → A (rank, in) and B (out, rank)."""
    whole: Mapping[str, Tensor]
    """Tensors that are neither, by their names in the base model."""
    base_layers: Collection[str]
    """Full names of the base model's linear layers."""

    @property
    def scaling(self) -> float:
        """One for all layers: lora_alpha / r."""
        return float(self.config["lora_alpha"] / self.config["r"])


def read_adapter(folder: Path, base_layers: Collection[str]) -> AdapterAsRead:
    """The PEFT folder `folder`. Raises FileNotFoundError without its two files."""
    state = load_file(folder / WEIGHTS_NAME)
    tensors = {name.removeprefix(KEY_PREFIX): tensor for name, tensor in state.items()}
    names = [name.removesuffix(A_SUFFIX) for name in tensors if name.endswith(A_SUFFIX)]
    pairs = {name: (tensors.pop(name + A_SUFFIX), tensors.pop(name + B_SUFFIX)) for name in names}
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    return AdapterAsRead(config, pairs, tensors, base_layers)
