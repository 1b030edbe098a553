"""The singular values of an update B A, and how far two updates lie apart, from the factors alone: the product, as
large as the layer itself, is never made.

With thin QR decompositions Aᵀ = Q_A R_A and B = Q_B R_B the update is Q_B (R_B R_Aᵀ) Q_Aᵀ, whose singular values are
those of the small matrix in the middle. In float64; no Gram matrix, which would halve the digits of the small ones.
"""

import torch
from torch import Tensor

Factors = tuple[Tensor, Tensor]
"""A (r, d_in) and B (d_out, r)."""


@torch.no_grad()
def singular_values(factors: Factors, scaling: float) -> Tensor:
    """σ (r,) of s B A, falling; zeros behind the last where the layer is narrower than r."""
    A, B = factors
    found = scaling * torch.linalg.svdvals(_middle(A, B))
    return torch.cat([found, found.new_zeros(len(A) - len(found))])


@torch.no_grad()
def distance(one: Factors, other: Factors) -> float:
    """‖B₁ A₁ − B₂ A₂‖_F of updates of one layer, of whatever ranks."""
    A = torch.cat([one[0].double(), other[0].double()])
    B = torch.cat([one[1].double(), -other[1].double()], 1)
    return float(_middle(A, B).norm())


def _middle(A: Tensor, B: Tensor) -> Tensor:
    """R_B R_Aᵀ (min(d_out, r), min(d_in, r)): the update up to rotations on either side."""
    R_A, R_B = (torch.linalg.qr(W.double(), mode="r").R for W in (A.mT, B))
    return R_B @ R_A.mT
