"""Criteria: in which order the components of each layer would go, and what each further removal costs.

A criterion is a registered function of what is known about a batch of layers (Evidence), with a declaration of what it
needs. Padded components (layers of smaller rank) do not take part. Work stays on the device: no `.item()`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prunedlora.adapters.layers import Side
from prunedlora.pruning.gram import Gram
from prunedlora.registry import register
from prunedlora.seeds import generator


@dataclass(frozen=True)
class Evidence:
    """What an event knows about L layers, padded to r components; float64, zero where there is no component."""

    alive: Tensor
    """(L, r) bool: which components exist."""
    gram: Mapping[Side, Gram]
    """WᵀW of the factors, W = B or W = Aᵀ: the sides with a curvature for a criterion that models the loss, both for
    others. With gradients, RᵀR (recovery.py)."""
    inverse: Mapping[Side, Tensor]
    """P = H⁻¹ (L, r, r), H the damped curvature, of the sides that are scored. A layer without any has the identity and
    no gram on that side."""
    statistics: Mapping[str, Tensor]
    """Averaged statistics by name, (L, r, r) or (L, r)."""
    seed: int
    """Of this event, for draws."""


@dataclass(frozen=True)
class Elimination:
    """A sequence of removals per layer; the first k of it are the layer's choice if it has to lose k."""

    order: Tensor
    """(L, num) int64: component indices. Past a layer's rank the entries mean nothing."""
    cost: Tensor
    """(L, num): rise of the modelled loss by each removal, given those before it; inf past the layer's rank."""


@dataclass(frozen=True)
class Criterion:
    """A function (evidence, num) → Elimination, and what it needs to be collected."""

    scores: Callable[[Evidence], Tensor]
    """Score of every component by itself (L, r), higher = keep."""
    eliminate: Callable[[Evidence, int], Elimination]
    models_loss: bool
    """Whether it scores by a curvature, which recovery compensates with too."""
    own_curvature: str | None = None
    """The statistic that is its curvature, in the place of `pruning.curvature`; on side B."""
    statistics: tuple[str, ...] = ()
    """Statistics that it scores by, besides."""

    @property
    def uses_curvature(self) -> bool:
        """Whether it scores by `pruning.curvature`."""
        return self.models_loss and self.own_curvature is None


def single_scores(evidence: Evidence) -> Tensor:
    """½ ‖W_j‖² / P_jj with P = H⁻¹, summed over the sides that have a curvature, (L, r)."""
    return torch.stack(
        [0.5 * evidence.gram[side].diagonal / P.diagonal(dim1=-2, dim2=-1) for side, P in evidence.inverse.items()]
    ).sum(0)


def optimal_brain_surgeon(evidence: Evidence, num: int) -> Elimination:
    """One by one, always the component of the lowest score (`single_scores`) given those that went before.

    Several components at once are not the ones with the lowest single scores: correlated ones stand in for each other
    until one of them is gone. After each choice W (of which scores need C = WᵀW) and P are downdated, which makes the
    greedy choice exact for the chosen set:

        W ← W − W_j P_j: / P_jj      P ← P − P_:j P_j: / P_jj

    The cost is that after full compensation, also where less of it is applied: what survivors can take over they learn
    in the steps that follow. Scoring what a removal costs at the strength applied, ½ H_jj ‖W_j‖² and its cross terms at
    strength 0, was tried and given up: on equal terms it was behind (jobs/results/README.md).

    Ties go to the lowest index. https://proceedings.neurips.cc/paper/1992/hash/303ed4c69846ab36c2904d3ba8573050-Abstract.html
    """
    alive = evidence.alive
    downdates = [_Downdate(evidence.gram[side], P, num) for side, P in evidence.inverse.items()]
    remaining = alive.clone()
    order, cost = [], []
    for step in range(num):
        parts = [0.5 * d.C_diagonal.clamp(min=0) / torch.where(remaining, d.P_diagonal, 1.0) for d in downdates]
        scores = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        best, chosen = torch.where(remaining, scores, torch.inf).min(-1)
        order.append(chosen)
        cost.append(best)
        if step + 1 < num:
            left = remaining.gather(1, chosen[:, None])  # False once a layer of smaller rank has run out
            for downdate in downdates:
                downdate.remove(chosen, left)
            remaining.scatter_(1, chosen[:, None], False)
    return _elimination(order, cost, alive)


class _Downdate:
    """The diagonals of C = WᵀW and P of one side, as components M go one by one.

    What is left of W and P after M is W E and P E with E = I − S_M T, T = P[M, M]⁻¹ P[M, :] (|M|, r), S_M the columns M
    of the identity. So one column of either, which is all that the next downdate needs, is a product with the first W
    or P: no r × r matrix is written.
    """

    def __init__(self, gram: Gram, P: Tensor, num: int) -> None:
        self.C_diagonal = gram.diagonal.clone()
        self.P_diagonal = P.diagonal(dim1=-2, dim2=-1).clone()
        self._gram = gram
        self._P = P
        self._T = P.new_zeros(len(P), num, P.shape[-1])
        self._removed = torch.zeros(len(P), 0, dtype=torch.int64, device=P.device)

    def remove(self, chosen: Tensor, left: Tensor) -> None:
        """Takes component `chosen` (L,) out, where `left` (L, 1) says that it was still there."""
        m, index, removed = self._removed.shape[1], chosen[:, None], self._removed
        T = self._T[:, :m]
        T_j = T.gather(2, index[:, None, :].expand(-1, m, 1))  # (L, m, 1)
        x = torch.zeros_like(self.C_diagonal).scatter_(1, index, 1.0).scatter_add_(1, removed, -T_j[..., 0])  # E e_j
        p = (self._P @ x[..., None])[..., 0]
        a = torch.where(left, p / self.P_diagonal.gather(1, index), 0.0)
        Cx = self._gram.times(x)
        c = Cx - (T.mT @ Cx.gather(1, removed)[..., None])[..., 0]  # Eᵀ C E e_j
        self.P_diagonal -= p * a
        # C − c aᵀ − a cᵀ + C_jj a aᵀ, both sides of the downdate of W
        self.C_diagonal += a * (c.gather(1, index) * a - 2 * c)
        T -= T_j * a[:, None, :]
        self._T[:, m] = a
        self._removed = torch.cat([removed, index], 1)


def _elimination(order: list[Tensor], cost: list[Tensor], alive: Tensor) -> Elimination:
    if not order:
        empty = alive.new_zeros((alive.shape[0], 0))
        return Elimination(empty.long(), empty.double())
    return Elimination(torch.stack(order, -1), torch.stack(cost, -1))


def lowest(scores: Tensor, alive: Tensor, num: int) -> Elimination:
    """The components in order of their own scores (L, r), higher = keep; ties go to the lowest index."""
    cost, order = torch.where(alive, scores, torch.inf).sort(stable=True, dim=-1)
    return Elimination(order[:, :num], cost[:, :num])


register("criterion", "gradient")(Criterion(single_scores, optimal_brain_surgeon, models_loss=True))
"""PrunedLoRA (https://arxiv.org/abs/2510.00192): Optimal Brain Surgeon, curvature from gradients of the loss."""

register("criterion", "activation_obs")(
    Criterion(single_scores, optimal_brain_surgeon, models_loss=True, own_curvature="activation")
)
"""As SparseGPT (https://arxiv.org/abs/2301.00774): the same with H = E[h hᵀ], h = A x, the change of the layer's output
instead of the loss; on B."""


def _scored(function: Callable[[Evidence], Tensor], *statistics: str) -> Criterion:
    return Criterion(
        function,
        lambda evidence, num: lowest(function(evidence), evidence.alive, num),
        models_loss=False,
        statistics=statistics,
    )


def norms(evidence: Evidence, side: Side) -> Tensor:
    """‖B_j‖ or ‖A_j‖, (L, r)."""
    return evidence.gram[side].diagonal.sqrt()


def _magnitude(evidence: Evidence) -> Tensor:
    return norms(evidence, "A") * norms(evidence, "B")


def _activation(evidence: Evidence) -> Tensor:
    mean_square = evidence.statistics["activation"].diagonal(dim1=-2, dim2=-1)
    return mean_square.clamp(min=0).sqrt() * norms(evidence, "B")


def _random(evidence: Evidence) -> Tensor:
    # Drawn for the components that exist, layer after layer: padding must not shift what the others get.
    draws = torch.rand(int(evidence.alive.sum()), generator=generator(evidence.seed, "random"), dtype=torch.float64)
    scores = torch.zeros(evidence.alive.shape, dtype=torch.float64)
    scores[evidence.alive.cpu()] = draws
    return scores.to(evidence.alive.device)


register("criterion", "magnitude")(_scored(_magnitude))
"""‖A_j‖ · ‖B_j‖, the norm of the rank-one term."""
register("criterion", "activation")(_scored(_activation, "activation"))
"""As Wanda (https://arxiv.org/abs/2306.11695): root mean square over tokens of A_j x, times ‖B_j‖."""
register("criterion", "taylor")(_scored(lambda evidence: evidence.statistics["sensitivity"], "sensitivity"))
"""As LLM-Pruner (https://arxiv.org/abs/2305.11627): Σ|G_A ⊙ A|_j + Σ|G_B ⊙ B|_j."""
register("criterion", "random")(_scored(_random))
"""Seeded chance: the control."""
