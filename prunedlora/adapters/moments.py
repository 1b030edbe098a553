"""What becomes of gradients and the optimizer's moments when a layer's basis changes (methods.md 1.8)."""

from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunedlora.adapters.layers import AdaptedLayer

Moments = Literal["mapped", "reset"]
FIRST = ("exp_avg", "momentum_buffer")
SECOND = ("exp_avg_sq", "max_exp_avg_sq")


class MomentsError(ValueError):
    """An optimizer whose state cannot be taken along; the message names the entry."""


@torch.no_grad()
def map_moments(
    layer: AdaptedLayer, T: Tensor, T_inverse: Tensor, index: Tensor | None, optimizer: Optimizer | None, how: Moments
) -> None:
    """Takes gradients and moments along under A → T A, B → B T⁻¹ of the components `index` (None: all).

        gradient, first moments:  m_A → T⁻ᵀ m_A,         m_B → m_B Tᵀ
        second moments (approximately, as if entries were independent):  the same with squared entries of the maps

    `how` "reset" drops the optimizer's state of both factors instead, step count included. Raises MomentsError for
    state of a factor's shape that is neither.
    """
    for dim, parameter, map_ in ((0, layer.A, T_inverse.mT), (1, layer.B, T)):
        if parameter.grad is not None:
            _apply(parameter.grad, dim, index, map_)
        if optimizer is None or parameter not in optimizer.state:
            continue
        if how == "reset":
            del optimizer.state[parameter]
            continue
        for name, value in optimizer.state[parameter].items():
            if not isinstance(value, Tensor) or value.shape != parameter.shape:
                continue
            if name not in FIRST + SECOND:
                raise MomentsError(
                    f"the optimizer's state {name!r} of layer {layer.name!r} has no known map under a change of basis; "
                    "use AdamW or SGD, or moments 'reset'"
                )
            _apply(value, dim, index, map_ if name in FIRST else map_.square())


def _apply(tensor: Tensor, dim: int, index: Tensor | None, map_: Tensor) -> None:
    """In place: `map_` times the components `index` of A's kind (dim 0), those of B's kind (dim 1) times its
    transpose."""
    where = slice(None) if index is None else index.to(tensor.device)
    part = tensor[where] if dim == 0 else tensor[:, where]
    result = map_ @ part.to(map_.dtype) if dim == 0 else part.to(map_.dtype) @ map_.mT
    if dim == 0:
        tensor[where] = result.to(tensor.dtype)
    else:
        tensor[:, where] = result.to(tensor.dtype)
