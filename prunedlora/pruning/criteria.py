"""Criteria: in which order the components of each layer would go, and what each further removal costs.

A criterion is a registered function over a batch of layers:

    criterion(gram (L, r, r), curvature (L, r, r), alive (L, r), num) -> Elimination

`gram` = WᵀW of the factor that is scored, zero for layers without curvature; `curvature` damped, positive definite;
`alive` tells which components exist (layers of smaller rank are padded). Work stays on the device: no `.item()`.
Several components at once are not the ones with the lowest single scores: correlated ones stand in for each other
until one of them is gone, so the choice is made one by one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from prunedlora.registry import register


@dataclass(frozen=True)
class Elimination:
    """A sequence of removals per layer; the first k of it are the layer's choice if it has to lose k."""

    order: Tensor
    """(L, num) int64: component indices. Past a layer's rank the entries mean nothing."""
    cost: Tensor
    """(L, num): rise of the modelled loss by each removal, given those before it; inf past the layer's rank."""


@register("criterion", "gradient")
def gradient(gram: Tensor, curvature: Tensor, alive: Tensor, num: int) -> Elimination:
    """Optimal Brain Surgeon with a curvature from gradients of the training loss (PrunedLoRA, arXiv 2510.00192).

    Score of component j, zero-gradient form: ½ ‖W_j‖² / P_jj with P = H⁻¹. After each choice W (here C = WᵀW, all
    that the scores need) and P are downdated, which makes the greedy choice exact for the chosen set:

        W ← W − W_j P_j: / P_jj      P ← P − P_:j P_j: / P_jj

    Ties go to the lowest index.
    """
    C = gram.clone()
    P = torch.cholesky_inverse(torch.linalg.cholesky(curvature))
    remaining = alive.clone()
    order, cost = [], []
    for _ in range(num):
        # Pivots of removed components are zero up to rounding: keep them out of the division.
        pivots = torch.where(remaining, P.diagonal(dim1=-2, dim2=-1), 1.0)
        scores = 0.5 * C.diagonal(dim1=-2, dim2=-1).clamp(min=0) / pivots
        best, chosen = torch.where(remaining, scores, torch.inf).min(-1)
        order.append(chosen)
        cost.append(best)
        column, row = chosen[:, None, None].expand(-1, C.shape[1], 1), chosen[:, None, None]
        p, c = P.gather(2, column), C.gather(2, column)  # columns j, (L, r, 1)
        left = remaining.gather(1, chosen[:, None])[..., None]  # False once a layer of smaller rank has run out
        a = torch.where(left, p / pivots.gather(1, chosen[:, None])[..., None], 0.0)
        P.baddbmm_(p, a.mT, alpha=-1)
        # C − c aᵀ − a cᵀ + C_jj a aᵀ, both sides of the downdate of W
        C.baddbmm_(c, a.mT, alpha=-1).baddbmm_(a, (c - c.gather(1, row) * a).mT, alpha=-1)
        remaining.scatter_(1, chosen[:, None], False)
    if not order:
        empty = alive.new_zeros((alive.shape[0], 0))
        return Elimination(empty.long(), empty.to(gram.dtype))
    return Elimination(torch.stack(order, -1), torch.stack(cost, -1))
