"""Change of basis of a layer's components: the product B A stays, what a component is worth changes (methods.md 1.8).

    A' = T A,   B' = B T⁻¹,   B' A' = B A

With square roots L_h L_hᵀ of the second moment of h = A x and L_u L_uᵀ of that of u = s Bᵀ δ, and the decomposition
L_uᵀ L_h = U Σ Vᵀ, the map T = D Vᵀ L_h⁻¹ (T⁻¹ = L_h V D⁻¹, D a diagonal that is free) leads to components of which
number j costs ½ σ_j² to remove, with no cross terms: nothing is left to recover, and dropping the smallest is the best
approximation of B A of its rank in the Kronecker-factored metric of the loss. With L_h L_hᵀ = A Aᵀ and L_u L_uᵀ =
s² Bᵀ B it is the singular value decomposition of s B A (inputs and gradients taken for white).

All functions take batches (..., r, r) in float64.
"""

import torch
from torch import Tensor

FLOOR = 1e-14
"""Share of the largest eigenvalue below which one is rounding in float64."""


def principal_basis(L_h: Tensor, L_u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(Vᵀ L_h⁻¹, its inverse L_h V, σ falling (..., r)) for square roots `L_h`, `L_u` (..., r, r), L_h invertible."""
    _, sigma, Vh = torch.linalg.svd(L_u.mT @ L_h)
    # A singular vector's sign is free: fixed here, or rounding (one worker or two) would choose it.
    Vh = Vh * Vh.gather(-1, Vh.abs().argmax(-1, keepdim=True)).sign()
    # Vᵀ L_h⁻¹ = (L_h⁻ᵀ V)ᵀ
    return torch.linalg.solve(L_h.mT, Vh.mT).mT, L_h @ Vh.mT, sigma


def keep_row_size(T: Tensor, T_inverse: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """D T and T⁻¹ D⁻¹ with the D that gives every row of A' = D T A the usual size (root mean square) of A's rows.

    `gram` = A Aᵀ (..., r, r). Raw whitened rows differ by orders of magnitude, which would wreck the next optimizer
    step: steps of Adam have one size for all.
    """
    rows = (T @ gram * T).sum(-1).clamp(min=0).sqrt()
    usual = gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True).sqrt()
    scale = torch.where(rows > 0, usual / torch.where(rows > 0, rows, 1.0), 1.0)
    return scale[..., None] * T, T_inverse / scale[..., None, :]


def square_root(moment: Tensor) -> Tensor:
    """L (..., r, r), invertible, with L Lᵀ = M for a positive semi-definite M that is not zero.

    From the eigendecomposition: M may be singular (more components than dimensions, a component that does nothing), its
    eigenvalues are kept above FLOOR times the largest.
    """
    values, vectors = torch.linalg.eigh(moment)
    return vectors * values.clamp(min=FLOOR * values[..., -1:]).sqrt()[..., None, :]


def map_second_moment(moment: Tensor, T: Tensor) -> Tensor:
    """T M Tᵀ: the second moment of A' x from that of A x; with T⁻ᵀ that of u' from that of u."""
    return T @ moment @ T.mT
