"""Physical removal of components: factors, gradients and optimizer state together.

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
    _slice(layer.lora_A, 0, keep, optimizer)
    _slice(layer.lora_B, 1, keep, optimizer)
    _declare_rank(layer, len(indices))


def set_factors(layer: AdaptedLayer, A: Tensor, B: Tensor, optimizer: Optimizer | None) -> None:
    """Gives the layer factors of any rank, from a checkpoint for example; the scaling does not change.

    `A` (r, d_in) and `B` (d_out, r) are copied to the layer's device and dtype. The optimizer's state of the layer is
    dropped: it is loaded afterwards. Raises ValueError when the shapes do not fit the layer or each other.
    """
    d_in, d_out = layer.lora_A.in_features, layer.lora_B.out_features
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != d_in or B.shape[0] != d_out or A.shape[0] != B.shape[1]:
        raise ValueError(
            f"layer {layer.name!r} takes A (r, {d_in}) and B ({d_out}, r), got {tuple(A.shape)} and {tuple(B.shape)}"
        )
    for module, factor in ((layer.lora_A, A), (layer.lora_B, B)):
        old = module.weight
        _replace(module, factor.detach().to(old.device, old.dtype, copy=True), optimizer)
        if optimizer is not None:
            optimizer.state.pop(module.weight, None)
    _declare_rank(layer, A.shape[0])


def _slice(module: nn.Linear, dim: int, keep: Tensor, optimizer: Optimizer | None) -> None:
    old = module.weight
    index = keep.to(old.device)
    new = _replace(module, old.detach().index_select(dim, index), optimizer)
    if old.grad is not None:
        new.grad = old.grad.index_select(dim, index)
    if optimizer is not None and new in optimizer.state:
        state = optimizer.state[new]
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == old.shape:
                state[name] = value.index_select(dim, index)


def _replace(module: nn.Linear, weight: Tensor, optimizer: Optimizer | None) -> Parameter:
    """Puts a new Parameter in the place of the module's weight, and of its entries in the optimizer."""
    old = module.weight
    new = Parameter(weight, requires_grad=old.requires_grad)
    module.weight = new
    if optimizer is not None:
        for group in optimizer.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
        if old in optimizer.state:
            optimizer.state[new] = optimizer.state.pop(old)
    return new


def _declare_rank(layer: AdaptedLayer, rank: int) -> None:
    layer.lora_A.out_features = rank
    layer.lora_B.in_features = rank
    layer.module.r[layer.adapter_name] = rank
