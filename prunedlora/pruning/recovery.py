"""What survivors of a removal take over, by the quadratic model of the loss.

For one factor W (n, r), W = B or W = Aᵀ, with gradient G (n, r) and a curvature H (r, r) shared by the rows of W
(methods.md 1.1; Optimal Brain Surgeon, https://proceedings.neurips.cc/paper/1992/hash/303ed4c69846ab36c2904d3ba8573050-Abstract.html):

    minimise  Q(d) = <G, d> + ½ tr(d H dᵀ)   subject to  (W + d)[:, M] = 0        M pruned, S kept

    d* = −G P − R[:, M] P[M, M]⁻¹ P[M, :]        P = H⁻¹,  R = W − G P

G is left out unless it is asked for (`gradient_cap`). Everything is meant for float64; batch dimensions (...) come
first. tests/pruning/oracles.py has the same in other forms, which these functions are checked against.
"""

import torch
from torch import Tensor


def damp(curvature: Tensor, alive: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """A curvature that can be factorised, H + damping · tr(H)/r · I, and which layers have any: (H, has_curvature).

    `curvature` (L, r, r), symmetric, zero outside of `alive` (L, r), the components that exist. Relative to the trace,
    so that neither order nor recovery depends on the loss's scale. Components that do not exist, and layers without
    curvature (trace zero: False), get the identity, which couples nothing to nothing.
    """
    trace = curvature.diagonal(dim1=-2, dim2=-1).sum(-1)
    has_curvature = trace != 0  # NaN is no zero, so that the factorisation fails instead of hiding it
    num_alive = alive.sum(-1).clamp(min=1)
    diagonal = torch.where(alive, (damping * trace / num_alive)[..., None], torch.ones_like(trace)[..., None])
    diagonal = torch.where(has_curvature[..., None], diagonal, torch.ones_like(diagonal))
    damped = torch.where(has_curvature[..., None, None], curvature, 0.0)
    damped.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return damped, has_curvature


def inverse_of(curvature: Tensor) -> Tensor:
    """P = H⁻¹ (..., r, r) of a positive definite H. Raises LinAlgError for one that is not, or is no number."""
    if curvature.is_cuda or curvature.ndim < 3:
        return torch.cholesky_inverse(torch.linalg.cholesky(curvature))
    inverse = torch.empty_like(curvature)
    for H, P in zip(curvature, inverse, strict=True):  # each while it is in the cache: a batch takes a third longer
        torch.cholesky_inverse(torch.linalg.cholesky(H), out=P)
    return inverse


def handover(inverse: Tensor, order: Tensor, chosen: Tensor) -> Tensor:
    """T (..., k, r), which hands removed components over to the kept ones: d* = −W[:, M] T in zero-gradient form.

        T = P[M, M]⁻¹ P[M, :]        T[:, M] = I,  T[:, S] = −H[M, S] H[S, S]⁻¹

    `inverse` P = H⁻¹ (..., r, r); M = `order` (..., k) where `chosen` (..., k) is True; rows of the others are zero.
    Independent of W and of its number of rows, so that layers of any shape share a batch.
    """
    rows = torch.where(chosen[..., None], inverse.gather(-2, _columns(order, inverse).mT), 0.0)
    block = torch.where(chosen[..., None, :], rows.gather(-1, _columns(order, rows)), 0.0)
    return torch.linalg.solve(block + torch.diag_embed((~chosen).to(block.dtype)), rows)


def with_strength(handed_over: Tensor, order: Tensor, chosen: Tensor, strength: float) -> Tensor:
    """T (..., k, r) with its kept columns times `strength` in [0, 1], and its pruned ones exactly those of I."""
    size = handed_over.shape[-1]
    kept = ~pruned_mask(order, chosen, size)[..., None, :]
    identity = torch.zeros_like(handed_over).scatter_(-1, order[..., None], chosen[..., None].to(handed_over.dtype))
    return torch.where(kept, strength * handed_over, identity)


def recover(weight: Tensor, order: Tensor, handed_over: Tensor) -> Tensor:
    """One layer's factor after removal, (n, r): pruned columns zero, kept ones moved by the strength's share of d*.

    `weight` (n, r), W = B or W = Aᵀ; `order` (k,); `handed_over` (k, r) from `with_strength`. Strength 0 leaves the
    kept columns bit for bit, 1 is the full compensation.
    """
    return torch.addmm(weight, weight[:, order], handed_over, alpha=-1)


def pruned_mask(order: Tensor, chosen: Tensor, size: int) -> Tensor:
    """(..., size) bool: which components are `order` (..., k) where `chosen`. An index may come twice, chosen once."""
    counts = torch.zeros(*order.shape[:-1], size, dtype=torch.int64, device=order.device)
    return counts.scatter_add_(-1, order, chosen.long()) > 0


def kept_inverse(inverse: Tensor, order: Tensor, chosen: Tensor, handed_over: Tensor) -> Tensor:
    """H[S, S]⁻¹ in the place of S, zero elsewhere, (..., r, r): P − P[:, M] T."""
    columns = inverse.gather(-1, _columns(order, inverse)) * chosen[..., None, :]
    kept = ~pruned_mask(order, chosen, inverse.shape[-1])
    return (inverse - columns @ handed_over) * kept[..., :, None] * kept[..., None, :]


def _columns(order: Tensor, like: Tensor) -> Tensor:
    """The index that gathers columns `order` (..., k) of a matrix (..., n, r): (..., n, k)."""
    return order[..., None, :].expand(*like.shape[:-1], order.shape[-1])


def capped_gradient_scale(gradient_gram: Tensor, inverse: Tensor, weight_norm: Tensor, cap: float) -> Tensor:
    """γ in [0, 1], shape (...), such that ‖γ G P‖_F ≤ cap · ‖W‖_F, from GᵀG, P = H⁻¹ (..., r, r) and ‖W‖_F.

    G P grows as the gradient shrinks (H goes down with its square), so the full form of the problem needs a bound
    (methods.md 1.1).
    """
    step = (gradient_gram @ inverse * inverse).sum((-2, -1)).clamp(min=0).sqrt()
    bound = cap * weight_norm
    return torch.where(step > bound, bound / torch.where(step > 0, step, 1.0), 1.0)


def residual_gram(weight_gram: Tensor, cross: Tensor, gradient_gram: Tensor, inverse: Tensor) -> Tensor:
    """RᵀR of R = W − G P (..., r, r), from WᵀW, WᵀG and GᵀG: what scores see in the form with the gradient."""
    mixed = cross @ inverse
    return weight_gram - mixed - mixed.mT + inverse @ gradient_gram @ inverse
