"""An exported folder as mlx-lm loads it: factors the other way round, one rank and one scale for all layers.

Its loader puts that rank on each of the named modules in all blocks, refuses a tensor of another shape, and starts
`lora_b` at zero, so that layers may be absent but ranks may not differ.
https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/tuner/utils.py (load_adapters, linear_to_lora_layers)
"""

import json
import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

from prunedlora.adapters.export import CONFIG_NAME, WEIGHTS_NAME

MLX_WEIGHTS = "adapters.safetensors"
FACTOR = re.compile(r"base_model\.model\.(model\.layers\.\d+\.(.+))\.lora_([AB])\.weight")
"""Whole name, name inside of its block, and factor; MLX's models have the same names there as transformers'."""


class MlxError(ValueError):
    """An adapter that has no form of MLX's; the message names what does not fit."""


def write_mlx(folder: Path, to: Path, num_blocks: int) -> None:
    """Writes `adapter_config.json` and `adapters.safetensors` into `to` (made if missing): the adapter in `folder`,
    padded with zeros to its largest rank.

    `num_blocks`: of the base model. Raises MlxError for tensors that are no factors of layers in blocks, or factors of
    layers that keep their weight as (in, out).
    """
    config = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
    if config["fan_in_fan_out"]:
        raise MlxError("MLX has no layers of this base model's kind, whose weights are (in, out): merge it")
    rank, tensors, keys = config["r"], {}, set()
    for name, tensor in load_file(folder / WEIGHTS_NAME).items():
        if (found := FACTOR.fullmatch(name)) is None:
            raise MlxError(f"{name} is no factor of a layer of a block, and MLX takes no other: merge it")
        layer, key, factor = found.groups()
        if factor == "A":
            padded = pad(tensor, (0, 0, 0, rank - tensor.shape[0]))
        else:
            padded = pad(tensor, (0, rank - tensor.shape[1]))
        tensors[f"{layer}.lora_{factor.lower()}"] = padded.T.contiguous()  # (in, r) and (r, out)
        keys.add(key)
    to.mkdir(parents=True, exist_ok=True)
    save_file(dict(sorted(tensors.items())), to / MLX_WEIGHTS, metadata={"format": "mlx"})
    parameters = {"rank": rank, "scale": 1.0, "dropout": 0.0, "keys": sorted(keys)}
    written = {"fine_tune_type": "lora", "num_layers": num_blocks, "lora_parameters": parameters}
    (to / CONFIG_NAME).write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
