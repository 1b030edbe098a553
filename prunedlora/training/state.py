"""What training has made of a trial, taken and put back: of a branch's line, of an adapter before it is cut, of a
checkpoint.

How far the trial is and what it has cost (steps, seconds, tokens) is not in it, nor how much fits into memory: that
stays as it is found to be.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prunedlora.adapters.shrink import set_factors
from prunedlora.training.checkpoint import load_optimizer_tensors, optimizer_tensors
from prunedlora.training.loss_scale import LossScale
from prunedlora.training.trial import Trial


@dataclass(frozen=True)
class TrialState:
    """All that a step changes and the next one goes on from."""

    tensors: dict[str, Tensor]
    """`parameter:<name>` of what trains, `optimizer:<parameter>|<entry>`, `method:<name>`."""
    loss_scale: LossScale | None


def take_state(trial: Trial) -> TrialState:
    """The trial's state between two steps, copied to the CPU: parameters and moments are changed in place."""
    trained = {name: parameter for name, parameter in trial.model.named_parameters() if parameter.requires_grad}
    tensors: dict[str, Tensor] = {f"parameter:{name}": parameter for name, parameter in trained.items()}
    tensors |= {f"optimizer:{name}": value for name, value in optimizer_tensors(trial.optimizer, trial.model).items()}
    tensors |= {f"method:{name}": value for name, value in trial.method.state_dict().items()}
    copied = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    return TrialState(copied, None if trial.loss_scale is None else replace(trial.loss_scale))


def put_state(trial: Trial, state: TrialState) -> None:
    """Makes of an attached trial, whatever its ranks are, the one that `state` was taken of; `state` stays as it is.

    Parameters of LoRA layers are new objects afterwards. Raises ValueError for a state of another method.
    """
    parts: dict[str, dict[str, Tensor]] = {"parameter": {}, "optimizer": {}, "method": {}}
    for name, tensor in state.tensors.items():
        part, _, rest = name.partition(":")
        parts[part][rest] = tensor
    names_of = {parameter: name for name, parameter in trial.model.named_parameters()}
    for layer in trial.method.layers:
        A, B = (parts["parameter"].pop(names_of[factor]) for factor in (layer.A, layer.B))
        gate = None if layer.gate is None else parts["parameter"].pop(names_of[layer.gate])
        set_factors(layer, A, B, trial.optimizer, gate)
    own = dict(trial.model.named_parameters())
    with torch.no_grad():
        for name, tensor in parts["parameter"].items():
            own[name].copy_(tensor)
    load_optimizer_tensors(trial.optimizer, trial.model, parts["optimizer"])
    trial.method.load_state_dict(parts["method"])
    trial.loss_scale = None if state.loss_scale is None else replace(state.loss_scale)
