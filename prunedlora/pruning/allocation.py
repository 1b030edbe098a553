"""Allocation: how the components to remove are shared out among the layers (methods.md 1.4)."""

import math
from typing import Protocol

import torch
from torch import Tensor

from prunedlora.registry import register


class Allocation(Protocol):
    """A rule that shares out removals. Both methods are pure."""

    def num_to_remove(
        self, num_layers: int, initial_rank: int, target_sparsity: float | None, target_rank: int | None, min_rank: int
    ) -> int:
        """K, the removals of the whole training in this rule's unit: per layer, or over all layers.

        Exactly one of `target_sparsity` and `target_rank` (mean rank at the end) is given. Raises ValueError for a
        target that cannot be reached or that `min_rank` forbids.
        """
        ...

    def num_removed_so_far(self, ranks: list[int], initial_rank: int) -> int:
        """Removals done, in the unit of `num_to_remove`."""
        ...

    def counts(self, cost: Tensor, ranks: Tensor, num: int, min_rank: int) -> Tensor:
        """How many components each layer loses, (L,) int64, when `num` more removals (this rule's unit) are due.

        `cost` (L, k): marginal costs of each layer's sequence of removals, k ≥ min(num, largest rank − min_rank);
        `ranks` (L,) int64. No layer falls below `min_rank`; the count is exact.
        """
        ...


def _removals(of: int, initial_rank: int, target_sparsity: float | None, target_rank: int | None, min_rank: int) -> int:
    """Removals out of `of` components (of one layer, or of all), whose floor is `min_rank` of every `initial_rank`."""
    if (target_sparsity is None) == (target_rank is None):
        raise ValueError(f"give exactly one of target_sparsity ({target_sparsity}) and target_rank ({target_rank})")
    if target_rank is not None:
        if not 0 <= target_rank <= initial_rank:
            raise ValueError(f"target_rank {target_rank} must lie between 0 and the initial rank {initial_rank}")
        num, target = (initial_rank - target_rank) * of // initial_rank, f"target_rank {target_rank}"
    else:
        assert target_sparsity is not None
        if not 0 <= target_sparsity <= 1:
            raise ValueError(f"target_sparsity {target_sparsity:g} must lie between 0 and 1")
        num, target = math.floor(target_sparsity * of + 0.5), f"target_sparsity {target_sparsity:g}"
    allowed = of // initial_rank * max(initial_rank - min_rank, 0)
    if num > allowed:
        raise ValueError(
            f"{target} of initial rank {initial_rank} removes {num} of {of} components, "
            f"but min_rank {min_rank} allows {allowed}"
        )
    return num


class Uniform:
    """Every layer loses the same number (the paper's public code). Counts are per layer."""

    def num_to_remove(
        self, num_layers: int, initial_rank: int, target_sparsity: float | None, target_rank: int | None, min_rank: int
    ) -> int:
        """⌊sparsity · initial rank + ½⌋ per layer, or initial rank − target rank. Raises as Allocation says."""
        return _removals(initial_rank, initial_rank, target_sparsity, target_rank, min_rank)

    def num_removed_so_far(self, ranks: list[int], initial_rank: int) -> int:
        """Removals per layer."""
        return initial_rank - max(ranks)

    def counts(self, cost: Tensor, ranks: Tensor, num: int, min_rank: int) -> Tensor:
        """`num` for every layer."""
        return torch.full_like(ranks, num)


class Global:
    """All layers compete: costs estimate one loss, so they can be compared. Counts are over all layers.

    The layers' sequences are merged in order of cost; a removal that is cheaper than the one before it in its own
    layer (its predecessor had to go first) counts at the predecessor's cost. Ties go by layer, then by position, and
    the choice is by position in the sorted order, never by a threshold.
    """

    def num_to_remove(
        self, num_layers: int, initial_rank: int, target_sparsity: float | None, target_rank: int | None, min_rank: int
    ) -> int:
        """⌊sparsity · all components + ½⌋, or (initial rank − target rank) · layers. Raises as Allocation says."""
        return _removals(num_layers * initial_rank, initial_rank, target_sparsity, target_rank, min_rank)

    def num_removed_so_far(self, ranks: list[int], initial_rank: int) -> int:
        """Removals over all layers."""
        return initial_rank * len(ranks) - sum(ranks)

    def counts(self, cost: Tensor, ranks: Tensor, num: int, min_rank: int) -> Tensor:
        """The `num` cheapest removals over all layers."""
        position = torch.arange(cost.shape[1], device=cost.device)
        allowed = position < (ranks - min_rank)[:, None]
        merged = torch.where(allowed, cost.cummax(1).values, torch.inf).flatten()
        # Stable, and running maxima never fall along a layer: each layer's share is a prefix of its sequence.
        taken = torch.zeros_like(merged, dtype=torch.int64)
        taken[merged.argsort(stable=True)[:num]] = 1
        return taken.view_as(cost).sum(1)


uniform = register("allocation", "uniform")(Uniform())
global_ = register("allocation", "global")(Global())
