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
from prunedlora.pruning.ladder import SizeUnit
from prunedlora.pruning.principal import SecondMoments, principal_components
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


def ranks_left(
    costs: Tensor,
    ranks: Sequence[int],
    widths: Sequence[int],
    *,
    allocation: str,
    unit: SizeUnit,
    size: float,
    min_rank: int,
    start: Sequence[int],
) -> list[int]:
    """Rank of every layer after a cut to `size`. `start`: ranks that shares ("kept") are of."""
    rule: Allocation = lookup("allocation", allocation)
    within = _budget(rule, unit, size, start, widths)
    of_all = torch.tensor(ranks), torch.tensor(widths)
    low, high = 0, sum(rank * width for rank, width in zip(ranks, widths, strict=True))
    while low < high:
        num = (low + high) // 2
        lost = rule.counts(costs.cpu(), *of_all, Demand(num, min_rank)).tolist()
        if within([rank - gone for rank, gone in zip(ranks, lost, strict=True)]):
            high = num
        else:
            low = num + 1
    lost = rule.counts(costs.cpu(), *of_all, Demand(low, min_rank)).tolist()
    return [rank - gone for rank, gone in zip(ranks, lost, strict=True)]


def _budget(rule, unit, size, start, widths):
    def params(ranks):
        return sum(rank * width for rank, width in zip(ranks, widths, strict=True))

    if unit == "parameters":
        return lambda ranks: params(ranks) <= size
    if rule.unit == "parameters":
        most = size * sum(widths) if unit == "mean_rank" else size * params(start)
        return lambda ranks: params(ranks) <= most
    most = size * len(widths) if unit == "mean_rank" else size * sum(start)
    return lambda ranks: sum(ranks) <= most
