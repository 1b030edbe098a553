"""Allocation: how the components to remove are shared out among the layers (methods.md 1.4)."""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from prunedlora.pruning.target import SERVED_SLOT, MinRankError, Target
from prunedlora.registry import register
from prunedlora.served_slot import SERVED_SLOTS


@dataclass(frozen=True)
class Demand:
    """What an event is to remove."""

    num: int
    """Removals, in the allocation's unit."""
    min_rank: int
    block: int = 1
    most_rank: int | None = None
    """Layers above it lose their excess first."""


class Allocation(Protocol):
    """A rule that shares out removals. All methods are pure."""

    def num_to_remove(self, num_layers: int, target: Target) -> int:
        """K, the removals of the whole training in this rule's unit: per layer, or over all layers.

        Raises ValueError for a target that cannot be reached or that `min_rank` or `round_to` forbids.
        """
        ...

    def most_rank(self, target: Target) -> int | None:
        """The rank that no layer may end above; None: any."""
        ...

    def num_removed_so_far(self, ranks: list[int], initial_rank: int) -> int:
        """Removals done, in the unit of `num_to_remove`."""
        ...

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """How many components each layer loses, (L,) int64.

        `cost` (L, k): marginal costs of each layer's sequence of removals, k ≥ min(num, largest rank − min_rank);
        `ranks` (L,) int64; `widths` (L,) parameters of one component. No layer falls below `min_rank`; the count is
        exact, down to whole blocks.
        """
        ...


def _removals(of: int, target: Target) -> int:
    """Removals out of `of` components (of one layer, or of all), whose floor is `min_rank` of every `initial_rank`."""
    sparsity, rank, initial = target.target_sparsity, target.target_rank, target.initial_rank
    if (sparsity is None) == (rank is None):
        raise ValueError(f"give exactly one of target_sparsity ({sparsity}) and target_rank ({rank})")
    if initial % target.block:
        raise ValueError(f"round_to {target.block} does not divide the initial rank {initial}")
    if rank is not None:
        if not 0 <= rank <= initial:
            raise ValueError(f"target_rank {rank} must lie between 0 and the initial rank {initial}")
        num, name = (initial - rank) * of // initial, f"target_rank {rank}"
    else:
        assert sparsity is not None
        if not 0 <= sparsity <= 1:
            raise ValueError(f"target_sparsity {sparsity:g} must lie between 0 and 1")
        num, name = math.floor(sparsity * of / target.block + 0.5) * target.block, f"target_sparsity {sparsity:g}"
    floor = math.ceil(target.min_rank / target.block) * target.block
    allowed = of // initial * max(initial - floor, 0)
    if num > allowed:
        raise MinRankError(
            f"{name} of initial rank {initial} removes {num} of {of} components, "
            f"but min_rank {target.min_rank} allows {allowed}"
        )
    return num


class Uniform:
    """Every layer loses the same number (the paper's public code). Counts are per layer.

    `round_to`: a target rank must fit; a target sparsity goes to the nearest rank that does (of two, the smaller).
    """

    def num_to_remove(self, num_layers: int, target: Target) -> int:
        """⌊sparsity · initial rank + ½⌋ per layer, or initial rank − target rank. Raises as Allocation says."""
        num = _removals(target.initial_rank, target)
        if target.round_to is None:
            return num
        rank = target.initial_rank - num
        if target.round_to != SERVED_SLOT:
            if rank % target.block:
                raise ValueError(f"target_rank {rank} is no multiple of round_to {target.block}")
            return num
        if target.target_rank is not None and rank not in SERVED_SLOTS:
            raise ValueError(f"target_rank {rank} is no served slot; those are {', '.join(map(str, SERVED_SLOTS))}")
        reachable = [slot for slot in SERVED_SLOTS if target.min_rank <= slot <= target.initial_rank]
        if not reachable:
            raise ValueError(
                f"no served slot lies between min_rank {target.min_rank} and initial rank {target.initial_rank}"
            )
        exact = target.initial_rank * (1 - (target.target_sparsity or 0.0)) if target.target_rank is None else rank
        return target.initial_rank - min(reachable, key=lambda slot: (abs(slot - exact), slot))

    def most_rank(self, target: Target) -> int | None:
        """None: all layers end at one rank."""
        return None

    def num_removed_so_far(self, ranks: list[int], initial_rank: int) -> int:
        """Removals per layer."""
        return initial_rank - max(ranks)

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """As many whole blocks for every layer as `num` holds."""
        return torch.full_like(ranks, demand.num // demand.block * demand.block)


@dataclass(frozen=True)
class Global:
    """All layers compete: costs estimate one loss, so they can be compared. Counts are over all layers.

    The layers' sequences are merged in order of cost; a removal that is cheaper than the one before it in its own
    layer (its predecessor had to go first) counts at the predecessor's cost. Blocks compete by their summed cost. Ties
    go by layer, then by position, and the choice is by position in the sorted order, never by a threshold.
    """

    per_parameter: bool
    """Whether costs are per parameter freed (d_in + d_out for a component), not per component."""

    def num_to_remove(self, num_layers: int, target: Target) -> int:
        """⌊sparsity · all components + ½⌋, or (initial rank − target rank) · layers; with blocks, the nearest number of
        whole ones. Raises as Allocation says."""
        num = _removals(num_layers * target.initial_rank, target)
        return num // target.block * target.block

    def most_rank(self, target: Target) -> int | None:
        """With round_to "served_slot": the smallest slot that holds the mean target rank."""
        if target.round_to != SERVED_SLOT:
            return None
        sparsity = target.target_sparsity or 0.0
        mean = target.target_rank if target.target_rank is not None else target.initial_rank * (1 - sparsity)
        # Rounding of the number of removals can leave a little more than the mean: by less than one component a layer.
        return next((slot for slot in SERVED_SLOTS if slot >= mean - 1e-9), None)

    def num_removed_so_far(self, ranks: list[int], initial_rank: int) -> int:
        """Removals over all layers."""
        return initial_rank * len(ranks) - sum(ranks)

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """The cheapest removals over all layers."""
        if demand.block > 1:
            return demand.block * self._in_blocks(cost, ranks, widths, demand)
        position = torch.arange(cost.shape[1], device=cost.device)
        allowed = position < (ranks - demand.min_rank)[:, None]
        running = cost.cummax(1).values
        if self.per_parameter:
            running = running / widths[:, None]
        merged = torch.where(allowed, running, torch.inf).flatten()
        order = merged.argsort(stable=True)
        if demand.most_rank is not None:
            excess = (position < (ranks - demand.most_rank)[:, None]).flatten()
            order = order[(~excess[order]).to(torch.uint8).argsort(stable=True)]
        # Stable, and running maxima never fall along a layer: each layer's share is a prefix of its sequence.
        taken = torch.zeros_like(merged, dtype=torch.int64)
        taken[order[: demand.num]] = 1
        return taken.view_as(cost).sum(1)

    def _in_blocks(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        size = demand.block
        num_blocks = cost.shape[1] // size
        summed = cost[:, : num_blocks * size].view(len(cost), num_blocks, size).sum(-1)
        of_blocks = replace(demand, num=demand.num // size, min_rank=-(-demand.min_rank // size), block=1)
        return self.counts(summed, ranks // size, widths, of_blocks)


uniform = register("allocation", "uniform")(Uniform())
global_ = register("allocation", "global")(Global(per_parameter=False))
global_per_parameter = register("allocation", "global_per_parameter")(Global(per_parameter=True))
