"""One pruning event: what is known → what goes, in one batch over all layers (methods.md 1.1).

Components are removed as they stand (`remove`), or after a change of basis to principal components of the product
(`truncate`), where none stands in for another and nothing is left to recover.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunedlora.adapters.layers import Side
from prunedlora.pruning.criteria import Criterion, Elimination, Evidence
from prunedlora.pruning.gram import gram_matrix, gram_of_matrix, gram_of_weights, masked, stack
from prunedlora.pruning.live import LiveLayer
from prunedlora.pruning.principal import principal_components
from prunedlora.pruning.recovery import (
    capped_gradient_scale,
    damp,
    handover,
    inverse_of,
    kept_inverse,
    pruned_mask,
    recover,
    residual_gram,
    with_strength,
)

Counts = Callable[[Tensor, Tensor], Tensor]
"""(marginal costs (L, k), ranks (L,)) → how many components each layer loses (L,)."""


@dataclass(frozen=True)
class Known:
    """What an event knows, gathered from all layers."""

    evidence: Evidence
    inverse: Mapping[Side, Tensor]
    """P = H⁻¹ (L, r, r), H damped, of the sides that are scored or compensated."""
    has_curvature: Mapping[Side, Tensor]
    """Which layers have one that is not zero, (L,) bool."""


@torch.no_grad()
def gather(
    layers: Sequence[LiveLayer],
    criterion: Criterion,
    curvatures: Mapping[Side, Sequence[Tensor]],
    statistics: Mapping[str, Sequence[Tensor]],
    *,
    damping: float | None,
    num: int,
    seed: int,
) -> Known:
    """Stacks the layers' factors and averaged statistics.

    `num`: removals that will be asked for. `curvatures`: H (r, r) per layer, of the sides that are scored (if the
    criterion does) and recovered; `statistics`: of the criterion, per layer.
    """
    device = layers[0].layer.B.device
    size = max(layer.rank for layer in layers)
    ranks = torch.tensor([layer.rank for layer in layers], device=device)
    alive = torch.arange(size, device=device) < ranks[:, None]
    # A criterion that models the loss sees the sides that have a curvature, the others see both.
    sides: tuple[Side, ...] = tuple(curvatures) if criterion.models_loss else ("A", "B")
    gram = {side: gram_of_weights([layer.factor(side) for layer in layers], size, num) for side in sides}
    inverse: dict[Side, Tensor] = {}
    has_curvature: dict[Side, Tensor] = {}
    for side, averages in curvatures.items():
        assert damping is not None
        damped, has_curvature[side] = damp(stack(averages, size), alive, damping)
        inverse[side] = inverse_of(damped)
        if criterion.models_loss:
            gram[side] = masked(gram[side], has_curvature[side])
    evidence = Evidence(
        alive=alive,
        gram=gram,
        inverse=inverse if criterion.models_loss else {},
        statistics={name: stack(averages, size) for name, averages in statistics.items()},
        seed=seed,
    )
    return Known(evidence, inverse, has_curvature)


@torch.no_grad()
def with_gradient(
    layers: Sequence[LiveLayer], known: Known, gradients: Sequence[Tensor], cap: float
) -> tuple[Evidence, Tensor]:
    """The evidence of the form with the gradient, on the single side that is known, and the share (L,) of the gradient
    that the cap admits. `gradients` (n, r) of W per layer, of the loss that the curvature is of."""
    ((side, P),) = known.inverse.items()
    evidence = known.evidence
    size = P.shape[-1]
    weights = [layer.factor(side).double() for layer in layers]
    G = [gradient.double() for gradient in gradients]
    gradient_gram = stack([g.mT @ g for g in G], size)
    cross = stack([W.mT @ g for W, g in zip(weights, G, strict=True)], size)
    norm = evidence.gram[side].diagonal.sum(-1).sqrt()
    scale = capped_gradient_scale(gradient_gram, P, norm, cap) * known.has_curvature[side]
    by = scale[:, None, None]
    gram = gram_matrix(weights, size) * known.has_curvature[side][:, None, None]
    residual = residual_gram(gram, by * cross, by * by * gradient_gram, P)
    return replace(evidence, gram={**evidence.gram, side: gram_of_matrix(residual)}), scale


@torch.no_grad()
def remove(
    layers: Sequence[LiveLayer],
    criterion: Criterion,
    known: Known,
    counts: Counts,
    num: int,
    *,
    recovery_strength: float,
    gradients: Sequence[Tensor] | None = None,
    gradient_cap: float | None = None,
) -> dict[int, Tensor]:
    """Scores, chooses, and hands what goes over to what stays; does not remove yet.

    Args:
        num: most components that a layer may lose.
        gradients: the gradient of W (n, r) per layer, of the loss that the curvature is of, for the form with the
            gradient on a single side.

    Returns index of a layer → rising indices of what it keeps (on the CPU), for the layers that lose some. Their
    factors hold the compensated values already, in the kept columns.
    """
    evidence, inverse = known.evidence, known.inverse
    alive = evidence.alive
    device, size = alive.device, alive.shape[1]
    scale: Tensor | None = None
    if gradients is not None and gradient_cap is not None:
        evidence, scale = with_gradient(layers, known, gradients, gradient_cap)
    sequence: Elimination = criterion.eliminate(evidence, num)
    chosen = torch.arange(sequence.order.shape[1], device=device) < counts(sequence.cost, alive.sum(1))[:, None]
    order = torch.where(chosen, sequence.order, 0)  # an index past a layer's rank is none of its factor's columns
    kept_on_host = (~pruned_mask(order, chosen, size) & alive).cpu()
    # Without recovery what is kept stays bit for bit, and nothing has to be worked out.
    recovered = inverse if recovery_strength else {}
    handed_over = {side: handover(P, order, chosen) for side, P in recovered.items()}
    shares = {side: with_strength(T, order, chosen, recovery_strength) for side, T in handed_over.items()}
    kept = {}
    for index, layer in enumerate(layers):
        keep = kept_on_host[index, : layer.rank]
        if bool(keep.all()):
            continue
        for side, T in shares.items():
            W = layer.factor(side).double()
            changed = recover(W, order[index].to(W.device), T[index, :, : layer.rank].to(W.device))
            if scale is not None and gradients is not None:
                P = kept_inverse(inverse[side][index], order[index], chosen[index], handed_over[side][index])
                step = gradients[index].double() @ P[: layer.rank, : layer.rank].to(W.device)
                changed = changed - recovery_strength * scale[index].to(W.device) * step
            layer.write(side, changed)
        kept[index] = torch.nonzero(keep).flatten()
    return kept


@torch.no_grad()
def truncate(
    layers: Sequence[LiveLayer],
    second_moments: tuple[Sequence[Tensor], Sequence[Tensor]] | None,
    counts: Counts,
    *,
    damping: float | None,
    optimizer: Optimizer | None,
    optimizer_moments: Literal["mapped", "reset"],
) -> tuple[dict[int, tuple[Tensor, Tensor]], list[int]]:
    """Changes every layer that loses components to its principal basis, largest first; does not remove yet.

    `second_moments`: averages of h hᵀ and of u uᵀ (r, r) per layer, for the metric of the loss (basis "whitened");
    None: the norm of s B A (basis "svd"). Returns index of a layer → (T, T⁻¹) of the change, for the layers that lose
    some, and how many each layer loses, as `counts` said of costs ½ σ²: the last components are those to go.
    """
    factors = [(layer.factor("A").mT, layer.factor("B")) for layer in layers]
    found = principal_components(factors, [layer.layer.scaling for layer in layers], second_moments, damping=damping)
    ranks = torch.tensor([layer.rank for layer in layers], device=found.costs.device)
    num_lost = counts(found.costs, ranks).tolist()
    changed = {}
    for index, lost in enumerate(num_lost):
        if lost:
            T, T_inverse = found.changes[index]
            layers[index].change_basis(T, T_inverse, optimizer, optimizer_moments)
            changed[index] = (T, T_inverse)
    return changed, num_lost
