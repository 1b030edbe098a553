"""The quadratic model of prunedlora/pruning/recovery.py in other forms: by Cholesky solves, and as a cost of sets.

Pruned sets are boolean masks (..., r). Rows and columns outside of a block are replaced by those of the identity.
"""

import torch
from torch import Tensor


def _kept_block(curvature: Tensor, pruned: Tensor) -> Tensor:
    """H with the rows and columns of the pruned components replaced by the identity's, (..., r, r)."""
    kept = (~pruned).to(curvature.dtype)
    return curvature * kept[..., :, None] * kept[..., None, :] + torch.diag_embed(1 - kept)


def optimal_change(weight: Tensor, gradient: Tensor, curvature: Tensor, pruned: Tensor) -> Tensor:
    """The d* that minimises Q under the constraint, (..., n, r), by one Cholesky solve.

        d*[:, M] = −W[:, M],   d*[:, S] = (W[:, M] H[M, S] − G[:, S]) H[S, S]⁻¹

    `weight`, `gradient` (..., n, r); `curvature` (..., r, r) positive definite; `pruned` (..., r) bool.
    """
    gone = weight * pruned[..., None, :]
    target = (gone @ curvature - gradient) * ~pruned[..., None, :]
    factor = torch.linalg.cholesky(_kept_block(curvature, pruned))
    return torch.cholesky_solve(target.mT, factor).mT - gone


def closed_form_change(weight: Tensor, gradient: Tensor, curvature: Tensor, pruned: Tensor) -> Tensor:
    """The same d* from P = H⁻¹ and R = W − G P: d* = −G P − R[:, M] P[M, M]⁻¹ P[M, :].

    Shapes as in `optimal_change`. The form that the scores come from; an oracle for the Cholesky form.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(curvature))
    residual = (weight - gradient @ inverse) * pruned[..., None, :]
    multipliers = torch.linalg.solve(_kept_block(inverse, ~pruned), residual.mT).mT * pruned[..., None, :]
    return -gradient @ inverse - multipliers @ inverse


def quadratic_model(change: Tensor, gradient: Tensor, curvature: Tensor) -> Tensor:
    """Q(d) = <G, d> + ½ tr(d H dᵀ), the estimated change of the loss, shape (...)."""
    return (gradient * change).sum((-2, -1)) + 0.5 * (change @ curvature * change).sum((-2, -1))


def removal_cost(gram: Tensor, curvature: Tensor, pruned: Tensor) -> Tensor:
    """Least cost of removing a set of components, ½ tr(R[:, M] P[M, M]⁻¹ R[:, M]ᵀ), shape (...).

    `gram` = RᵀR (..., r, r), with R = W in the zero-gradient form; `curvature` (..., r, r) positive definite; `pruned`
    (..., r) bool. With a gradient, R = W − G P and the cost is Q(d*) but for a constant that no choice changes.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(curvature))
    both = pruned[..., :, None] & pruned[..., None, :]
    solved = torch.linalg.solve(_kept_block(inverse, ~pruned), torch.where(both, gram, 0.0))
    return 0.5 * solved.diagonal(dim1=-2, dim2=-1).sum(-1)
