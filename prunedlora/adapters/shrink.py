"""Physical change of rank: factors (and gates, where there are any), gradients and optimizer state together.

A Parameter must not be given `.data` of another shape: autograd keeps an accumulator with the old shape and the next
backward fails with "returned an invalid gradient". So the Parameter is replaced, in the module and in the optimizer.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from prunedlora.adapters.layers import AdaptedLayer


def shrink(layer: AdaptedLayer, keep: Tensor, optimizer: Optimizer | None) -> None:
    """Keeps the components `keep` of the layer and drops the rest, for good.

    `keep`: int64 indices, shape (new rank,), strictly increasing; empty is allowed (rank 0). Rows of A and columns of
    B, their gradients, and every optimizer state tensor of the factor's shape are sliced alike; other state (the step
    count) stays. The scaling does not change. Parameters are new objects afterwards: look them up again.

    Raises ValueError when `keep` is not a strictly increasing list of indices of the layer's components.
    """
    indices = keep.tolist()
    in_order = all(i < j for i, j in pairwise(indices))
    if keep.dtype != torch.int64 or not in_order or (indices and not 0 <= indices[0] <= indices[-1] < layer.rank):
        raise ValueError(
            f"layer {layer.name!r} of rank {layer.rank}: keep must be strictly increasing int64 indices, got {indices}"
        )
    for module, name, dim in _places(layer):
        _slice(module, name, dim, keep, optimizer)
    declare_rank(layer, len(indices))


def grow(layer: AdaptedLayer, rows: Tensor, optimizer: Optimizer | None) -> None:
    """Adds components behind the layer's own: `rows` (k, d_in) of A, zero columns of B, gates of one.

    The optimizer starts them with zero moments; the others keep theirs and the step count. The scaling does not change.
    Parameters are new objects afterwards, without gradients. Raises ValueError for rows that do not fit the layer.
    """
    d_in = layer.lora_A.in_features
    if rows.ndim != 2 or rows.shape[1] != d_in:
        raise ValueError(f"layer {layer.name!r} takes rows (k, {d_in}), got {tuple(rows.shape)}")
    num = rows.shape[0]
    additions = {"A": rows, "B": layer.B.new_zeros(layer.B.shape[0], num)}
    for module, name, dim in _places(layer):
        old = getattr(module, name)
        factor = "A" if dim == 0 else "B"
        addition = old.new_ones(num) if name == "gate" else additions[factor].to(old)
        _extend(module, name, dim, addition, optimizer)
    declare_rank(layer, layer.rank)


def set_factors(
    layer: AdaptedLayer, A: Tensor, B: Tensor, optimizer: Optimizer | None, gate: Tensor | None = None
) -> None:
    """Gives the layer factors of any rank, from a checkpoint for example; the scaling does not change.

    `A` (r, d_in), `B` (d_out, r) and, for a layer with gates, `gate` (r,) are copied to the layer's device and dtype.
    The optimizer's state of the layer is dropped: it is loaded afterwards. Raises ValueError when the shapes do not fit
    the layer or each other, or a gate is given for a layer that has none.
    """
    d_in, d_out = layer.lora_A.in_features, layer.lora_B.out_features
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != d_in or B.shape[0] != d_out or A.shape[0] != B.shape[1]:
        raise ValueError(
            f"layer {layer.name!r} takes A (r, {d_in}) and B ({d_out}, r), got {tuple(A.shape)} and {tuple(B.shape)}"
        )
    if (gate is None) != (layer.gate is None) or (gate is not None and gate.shape != (A.shape[0],)):
        expected = "no gate" if layer.gate is None else f"a gate ({A.shape[0]},)"
        raise ValueError(f"layer {layer.name!r} takes {expected}, got {None if gate is None else tuple(gate.shape)}")
    values = {"A": A, "B": B, "gate": gate}
    for module, name, dim in _places(layer):
        old = getattr(module, name)
        value = values["gate" if name == "gate" else "AB"[dim]]
        assert value is not None
        new = _replace(module, name, value.detach().to(old.device, old.dtype, copy=True), optimizer)
        if optimizer is not None:
            optimizer.state.pop(new, None)
    declare_rank(layer, A.shape[0])


def _places(layer: AdaptedLayer) -> list[tuple[nn.Linear, str, int]]:
    """Every Parameter with a component dimension: module, attribute, dimension."""
    places = [(layer.lora_A, "weight", 0), (layer.lora_B, "weight", 1)]
    return places if layer.gate is None else [*places, (layer.lora_A, "gate", 0)]


def _slice(module: nn.Linear, name: str, dim: int, keep: Tensor, optimizer: Optimizer | None) -> None:
    old: Parameter = getattr(module, name)
    index = keep.to(old.device)
    new = _replace(module, name, old.detach().index_select(dim, index), optimizer)
    if old.grad is not None:
        new.grad = old.grad.index_select(dim, index)
    if optimizer is not None and new in optimizer.state:
        state = optimizer.state[new]
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == old.shape:
                state[name] = value.index_select(dim, index)


def _extend(module: nn.Linear, name: str, dim: int, addition: Tensor, optimizer: Optimizer | None) -> None:
    old: Parameter = getattr(module, name)
    new = _replace(module, name, torch.cat([old.detach(), addition], dim), optimizer)
    if optimizer is not None and new in optimizer.state:
        state = optimizer.state[new]
        for entry, value in state.items():
            if isinstance(value, Tensor) and value.shape == old.shape:
                state[entry] = torch.cat([value, torch.zeros_like(addition)], dim)


def _replace(module: nn.Linear, name: str, value: Tensor, optimizer: Optimizer | None) -> Parameter:
    """Puts a new Parameter in the place of an old one, in the module and in the optimizer."""
    old: Parameter = getattr(module, name)
    new = Parameter(value, requires_grad=old.requires_grad)
    setattr(module, name, new)
    if optimizer is not None:
        for group in optimizer.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
        if old in optimizer.state:
            optimizer.state[new] = optimizer.state.pop(old)
    return new


def component_parameters(layer: AdaptedLayer) -> list[tuple[nn.Linear, str, Parameter]]:
    """Every Parameter of the layer with a component dimension: module, attribute, itself."""
    return [(module, name, getattr(module, name)) for module, name, _ in _places(layer)]


def declare_rank(layer: AdaptedLayer, rank: int) -> None:
    """Writes the rank where PEFT's modules keep it beside the factors."""
    layer.lora_A.out_features = rank
    layer.lora_B.in_features = rank
    layer.module.r[layer.adapter_name] = rank
