"""Allocation: how the components to remove are shared out among the layers (methods.md 1.4)."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from prunedlora.pruning.target import SERVED_SLOT, MinRankError, Target
from prunedlora.registry import register
from prunedlora.served_slot import SERVED_SLOTS

Unit = Literal["components", "parameters"]
"""What an allocation counts."""


@dataclass(frozen=True)
class Demand:
    """What an event is to remove."""

    num: int
    """What is to go, in the allocation's `unit`."""
    min_rank: int
    block: int = 1
    most_rank: int | None = None
    """Layers above it lose their excess first."""


class Allocation(Protocol):
    """A rule that shares out removals. All methods are pure."""

    @property
    def unit(self) -> Unit:
        """What `num_to_remove`, `least_due`, `num_removed_so_far` and `Demand.num` count."""
        ...

    def num_to_remove(self, num_layers: int, width: int, target: Target) -> int:
        """K, what goes over the whole training, in `unit`, per layer or over all layers. `width`: parameters of one
        component of every layer together.

        Raises ValueError for a target that cannot be reached or that `min_rank` or `round_to` forbids.
        """
        ...

    def most_rank(self, target: Target) -> int | None:
        """The rank that no layer may end above; None: any."""
        ...

    def least_due(self, target: Target) -> int:
        """The least that must be due for an event, in `unit`."""
        ...

    def num_removed_so_far(self, ranks: list[int], widths: list[int], initial_rank: int) -> int:
        """What has gone, in `unit`."""
        ...

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """How many components each layer loses, (L,) int64.

        `cost` (L, k): marginal costs of each layer's sequence of removals, k ≥ min(num, largest rank − min_rank), and
        at least a block where a layer has one to lose;
        `ranks` (L,) int64; `widths` (L,) parameters of one component. No layer falls below `min_rank`. Components are
        counted exactly, down to whole blocks; of parameters no fewer go than asked, and less than a component (block)
        more.
        """
        ...


def _removals(of: int, target: Target, unit: Unit) -> int:
    """How much of `of` units goes (of one layer, or of all), whose floor is `min_rank` of every `initial_rank`."""
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
        whole = target.block if unit == "components" else 1
        num, name = math.floor(sparsity * of / whole + 0.5) * whole, f"target_sparsity {sparsity:g}"
    floor = math.ceil(target.min_rank / target.block) * target.block
    allowed = of // initial * max(initial - floor, 0)
    if num > allowed:
        raise MinRankError(
            f"{name} of initial rank {initial} removes {num} of {of} {unit}, "
            f"but min_rank {target.min_rank} allows {allowed}"
        )
    return num


class Uniform:
    """Every layer loses the same number (the paper's public code). Counts are per layer.

    `round_to`: a target rank must fit; a target sparsity goes to the nearest rank that does (of two, the smaller).
    """

    @property
    def unit(self) -> Unit:
        """Components, of one layer."""
        return "components"

    def num_to_remove(self, num_layers: int, width: int, target: Target) -> int:
        """⌊sparsity · initial rank + ½⌋ per layer, or initial rank − target rank. Raises as Allocation says."""
        num = _removals(target.initial_rank, target, self.unit)
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

    def least_due(self, target: Target) -> int:
        """A block."""
        return target.block

    def num_removed_so_far(self, ranks: list[int], widths: list[int], initial_rank: int) -> int:
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
    """Costs are per parameter freed (d_in + d_out for a component), and so is the target: what is left has no more
    parameters than layers of the (mean) target rank. Otherwise components count, whatever their width."""

    @property
    def unit(self) -> Unit:
        """As `per_parameter` says, of all layers."""
        return "parameters" if self.per_parameter else "components"

    def num_to_remove(self, num_layers: int, width: int, target: Target) -> int:
        """⌊sparsity · all + ½⌋, or all · (initial rank − target rank) / initial rank; of components with blocks, the
        nearest number of whole ones. Raises as Allocation says."""
        if self.per_parameter:
            return _removals(width * target.initial_rank, target, self.unit)
        num = _removals(num_layers * target.initial_rank, target, self.unit)
        return num // target.block * target.block

    def most_rank(self, target: Target) -> int | None:
        """With round_to "served_slot": the smallest slot that holds the mean target rank."""
        if target.round_to != SERVED_SLOT:
            return None
        sparsity = target.target_sparsity or 0.0
        mean = target.target_rank if target.target_rank is not None else target.initial_rank * (1 - sparsity)
        # Rounding of the number of removals can leave a little more than the mean: by less than one component a layer.
        return next((slot for slot in SERVED_SLOTS if slot >= mean - 1e-9), None)

    def least_due(self, target: Target) -> int:
        """A block, or any parameter: then a whole block goes."""
        return 1 if self.per_parameter else target.block

    def num_removed_so_far(self, ranks: list[int], widths: list[int], initial_rank: int) -> int:
        """Components, or parameters, over all layers."""
        sizes = widths if self.per_parameter else [1] * len(ranks)
        return sum(size * (initial_rank - rank) for size, rank in zip(sizes, ranks, strict=True))

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """The cheapest removals over all layers."""
        size = demand.block
        num_blocks = cost.shape[1] // size
        if size > 1:
            cost = cost[:, : num_blocks * size].view(len(cost), num_blocks, size).sum(-1)
            ranks = ranks // size
        floor = -(-demand.min_rank // size)
        freed = size * (widths if self.per_parameter else torch.ones_like(widths))  # by one block of each layer
        position = torch.arange(num_blocks, device=cost.device)
        allowed = position < (ranks - floor)[:, None]
        running = cost.cummax(1).values
        if self.per_parameter:
            running = running / widths[:, None]
        merged = torch.where(allowed, running, torch.inf).flatten()
        order = merged.argsort(stable=True)
        if demand.most_rank is not None:
            excess = (position < (ranks - demand.most_rank // size)[:, None]).flatten()
            order = order[(~excess[order]).to(torch.uint8).argsort(stable=True)]
        freed_in_order = freed[:, None].expand_as(cost).flatten()[order]
        freed_before = freed_in_order.cumsum(0) - freed_in_order
        # Components are taken while a whole block is still due, parameters until enough are freed.
        due = freed_before < demand.num if self.per_parameter else freed_before + freed_in_order <= demand.num
        # Stable, and running maxima never fall along a layer: each layer's share is a prefix of its sequence.
        taken = torch.zeros_like(merged, dtype=torch.int64)
        taken[order] = due.long()
        return size * taken.view_as(cost).sum(1)


uniform = register("allocation", "uniform")(Uniform())
global_ = register("allocation", "global")(Global(per_parameter=False))
global_per_parameter = register("allocation", "global_per_parameter")(Global(per_parameter=True))
