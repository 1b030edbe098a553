"""A cut: a smaller adapter made of a trained one without training. All pure: factors in, smaller factors out.

The layers are turned to their principal components (svd, whitened) once; every cut, to whatever size and by whatever
allocation, is a choice of how many of the largest each layer keeps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunedlora.adapters.full_float32 import full_float32
from prunedlora.pruning.allocation import Allocation, Demand
from prunedlora.pruning.principal import SecondMoments, principal_components
from prunedlora.pruning.target import Start, Target
from prunedlora.registry import lookup

Factors = tuple[Tensor, Tensor]
"""A (r, d_in) and B (d_out, r) of a layer."""


@dataclass(frozen=True)
class Decomposed:
    """An adapter in its principal basis."""

    factors: Sequence[Factors]
    """Per layer, the largest component first; the product is the adapter's, up to rounding."""
    costs: Tensor
    """(L, largest rank) float64: what each layer's components cost, smallest first; inf behind them."""

    @property
    def ranks(self) -> list[int]:
        """Of all layers."""
        return [len(A) for A, _ in self.factors]

    @property
    def widths(self) -> list[int]:
        """Parameters of one component, d_in + d_out, of all layers."""
        return [A.shape[1] + B.shape[0] for A, B in self.factors]

    def cut(self, ranks: Sequence[int]) -> list[Factors]:
        """The factors of the `ranks[i]` largest components of every layer: of all adapters of these ranks the nearest,
        layer by layer, in the metric that it was decomposed in (svd: Eckart-Young)."""
        return [(A[:rank], B[:, :rank]) for (A, B), rank in zip(self.factors, ranks, strict=True)]


@torch.no_grad()
@full_float32
def decompose(
    factors: Sequence[Factors], scalings: Sequence[float], second_moments: SecondMoments | None, damping: float | None
) -> Decomposed:
    """Turns every layer to its principal components, computed in float64, in the factors' own type and devices.

    `second_moments` of h and u, damped by `damping`: basis "whitened"; None: basis "svd" (methods.md 1.8).
    """
    found = principal_components(factors, scalings, second_moments, damping=damping)
    turned = []
    for (A, B), (T, T_inverse) in zip(factors, found.changes, strict=True):
        forward, backward = T.to(A.device), T_inverse.to(B.device)
        turned.append(((forward @ A.double()).to(A.dtype), (B.double() @ backward).to(B.dtype)))
    return Decomposed(turned, found.costs)


def ranks_left(found: Decomposed, target: Target, allocation: str, start: Start) -> list[int]:
    """Rank of every layer after a cut to the target by an allocation; as they are where the target takes nothing.

    `start`: the layers at the start of the training, which the target is of. Raises ValueError for a target that
    cannot be reached from there.
    """
    rule: Allocation = lookup("allocation", allocation)
    goal = rule.goal(start, target)
    due = goal.num - rule.num_removed(start, found.ranks, found.widths, goal)
    if due <= 0:
        return found.ranks
    demand = Demand(due, target.min_rank, target.block, goal.most_rank, goal.unit, completes=True)
    ranks, widths = (torch.tensor(each, device=found.costs.device) for each in (found.ranks, found.widths))
    lost = rule.counts(found.costs, ranks, widths, demand).tolist()
    return [rank - num for rank, num in zip(found.ranks, lost, strict=True)]
