"""A running trial on disk: tensors as safetensors, everything else as JSON, nothing pickled.

A checkpoint is a folder with `tensors.safetensors` and `state.json`; the JSON holds the tensors' checksum, so that a
file cut short is found by name instead of training on from it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.checksums import file_sha256

TENSORS, STATE = "tensors.safetensors", "state.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read; the message names its folder and what is wrong."""


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Writes both files into a new folder. `state` must be JSON without NaN."""
    folder.mkdir(parents=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    content = {"tensors_sha256": file_sha256(folder / TENSORS), "state": state}
    (folder / STATE).write_text(json.dumps(content, allow_nan=False))


def read_checkpoint(folder: Path, device: torch.device, origin: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a checkpoint. `origin` is where its copy in `folder` came from, for messages.

    Raises CheckpointError for one that is incomplete or damaged.
    """
    try:
        content = json.loads((folder / STATE).read_text())
        expected, state = content["tensors_sha256"], content["state"]
        found = file_sha256(folder / TENSORS)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {origin} is broken: {error!r}; delete it and run again with --retry-failed"
        ) from error
    if found != expected:
        raise CheckpointError(
            f"checkpoint {origin} is broken: {TENSORS} has sha256 {found[:12]}…, {expected[:12]}… was written; "
            "delete it and run again with --retry-failed"
        )
    return load_file(folder / TENSORS, device=str(device)), state


def read_state(text: str, origin: str) -> dict[str, Any]:
    """The state alone, of the text of a STATE file, which came from `origin`. Raises CheckpointError for a broken
    one."""
    try:
        state: dict[str, Any] = json.loads(text)["state"]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {origin} is broken: {error!r}") from error
    return state


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state by parameter name: `<parameter>|<state entry>` → tensor."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}|{entry}": value
        for parameter, entries in optimizer.state.items()
        for entry, value in entries.items()
    }


def load_optimizer_tensors(optimizer: Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts state saved by `optimizer_tensors` back; the model has the parameters (and shapes) it had then."""
    parameters = dict(model.named_parameters())
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, entry = key.rpartition("|")
        parameter = parameters[name]
        if entry == "step":
            # A fused optimizer reads its step count on the device; others on the CPU, which costs no synchronisation.
            state = value.to(parameter.device if groups[parameter].get("fused") else "cpu", copy=True)
        elif value.shape == parameter.shape:
            # In the parameter's own order of memory: the fused kernel goes through both without looking at strides.
            state = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:
            state = value.to(parameter.device, copy=True)
        optimizer.state[parameter][entry] = state
