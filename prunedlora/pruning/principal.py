"""Principal components of every layer's product B A, and what each is worth: what events and cuts drop the smallest of
(basis.py has the maths of one batch)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunedlora.pruning.basis import keep_row_size, principal_basis, square_root
from prunedlora.pruning.recovery import damp

SecondMoments = tuple[Sequence[Tensor], Sequence[Tensor]]
"""Of h = A x, and of u = s Bᵀ δ, (r, r) per layer."""


@dataclass(frozen=True)
class PrincipalComponents:
    """In float64, on the device of the first layer. Number j of a layer is its j-th largest."""

    changes: Sequence[tuple[Tensor, Tensor]]
    """(T, T⁻¹) (r, r) per layer: A' = T A, B' = B T⁻¹."""
    costs: Tensor
    """(L, largest rank): ½ σ² of each layer's components, smallest first; inf behind them."""


@torch.no_grad()
def principal_components(
    factors: Sequence[tuple[Tensor, Tensor]],
    scalings: Sequence[float],
    second_moments: SecondMoments | None,
    *,
    damping: float | None,
) -> PrincipalComponents:
    """The change of every layer to its principal basis. `factors`: A (r, d_in) and B (d_out, r) per layer.

    `second_moments`: for the metric of the loss (basis "whitened"), damped by `damping` of their mean diagonal; None:
    the norm of s B A (basis "svd"). A layer that nothing is known about (no moment, or a factor of zeros) keeps
    its components, and any of them may go for nothing.
    """
    device = factors[0][1].device
    ranks = [len(A) for A, _ in factors]
    grams = [tuple(W.mT @ W for W in (A.double().mT, B.double())) for A, B in factors]
    changes: dict[int, tuple[Tensor, Tensor]] = {}
    costs = torch.full((len(factors), max(ranks)), torch.inf, dtype=torch.float64, device=device)
    for rank in sorted(set(ranks)):  # layers of one rank are one batch
        members = [index for index, own in enumerate(ranks) if own == rank]
        eye = torch.eye(rank, dtype=torch.float64, device=device)
        if rank == 0:
            changes |= dict.fromkeys(members, (eye, eye))
            continue
        everything = torch.ones(len(members), rank, dtype=torch.bool, device=device)
        gram_A = torch.stack([grams[index][0].to(device) for index in members])
        if second_moments is None:
            scaling = torch.tensor([scalings[index] for index in members], device=device).double()
            gram_B = torch.stack([grams[index][1].to(device) for index in members])
            G_h, G_u = gram_A, scaling[:, None, None] ** 2 * gram_B
            observed = (G_h.diagonal(dim1=-2, dim2=-1).sum(-1) != 0) & (G_u.diagonal(dim1=-2, dim2=-1).sum(-1) != 0)
        else:
            assert damping is not None
            stacks = (torch.stack([M[i].double().to(device) for i in members]) for M in second_moments)
            (G_h, has_h), (G_u, has_u) = (damp(M, everything, damping) for M in stacks)
            observed = has_h & has_u
        whether = observed[:, None, None]
        L_h, L_u = (square_root(torch.where(whether, G, eye)) for G in (G_h, G_u))
        forward, backward, sigma = principal_basis(L_h, L_u)
        forward, backward = keep_row_size(
            torch.where(whether, forward, eye), torch.where(whether, backward, eye), gram_A
        )
        cost = torch.where(observed[:, None], 0.5 * sigma**2, 0.0).flip(-1)
        for place, index in enumerate(members):
            changes[index] = forward[place], backward[place]
            costs[index, :rank] = cost[place]
    return PrincipalComponents([changes[index] for index in range(len(factors))], costs)
