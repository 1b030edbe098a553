"""Allocation: how the components to remove are shared out among the layers (methods.md 1.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prunedlora.pruning.goals import global_goal, uniform_goal
from prunedlora.pruning.target import Goal, Start, Target, Unit
from prunedlora.registry import register


@dataclass(frozen=True)
class Demand:
    """What an event is to remove."""

    num: int
    """What is to go, in `unit`."""
    min_rank: int
    block: int = 1
    most_rank: int | None = None
    """Layers above it lose their excess first."""
    unit: Unit | None = None
    """What `num` counts; None: the allocation's own."""
    completes: bool = False
    """Whether all excess goes, even where that is more than `num`: the goal is to be reached now."""


class Allocation(Protocol):
    """A rule that shares out removals. All methods are pure."""

    @property
    def unit(self) -> Unit:
        """What it counts, unless a ladder's budgets say otherwise."""
        ...

    def goal(self, start: Start, target: Target) -> Goal:
        """What has to go from the start on to reach the target (goals.py).

        Raises ValueError for a target that cannot be reached or that `min_rank` or `round_to` forbids.
        """
        ...

    def least_due(self, goal: Goal, block: int) -> int:
        """The least that must be due for an event, in the goal's unit."""
        ...

    def num_removed(self, start: Start, ranks: Sequence[int], widths: Sequence[int], goal: Goal) -> int:
        """What has gone since the start, in the goal's unit."""
        ...

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """How many components each layer loses, (L,) int64.

        `cost` (L, k): marginal costs of each layer's sequence of removals, k ≥ min(num, largest rank − min_rank), and
        at least a block where a layer has one to lose, and all that is above `most_rank`;
        `ranks` (L,) int64; `widths` (L,) parameters of one component. No layer falls below `min_rank`. Components are
        counted exactly, down to whole blocks; of parameters no fewer go than asked, and less than a component (block)
        more. Only a demand that completes may take more: what is above `most_rank`.
        """
        ...


class Uniform:
    """Every layer loses the same number (the paper's public code), down to one cap. Counts are of the layer that has
    the most; layers that have less than the cap lose nothing.

    `round_to`: a target rank must fit; a target sparsity goes to the nearest rank that does (of two, the smaller).
    """

    @property
    def unit(self) -> Unit:
        """Components, of one layer."""
        return "components"

    def goal(self, start: Start, target: Target) -> Goal:
        """The cap that every layer is to end at."""
        return uniform_goal(start, target)

    def least_due(self, goal: Goal, block: int) -> int:
        """A block."""
        return block

    def num_removed(self, start: Start, ranks: Sequence[int], widths: Sequence[int], goal: Goal) -> int:
        """Removals of the layer that had the most."""
        return start.max_rank - max(ranks)

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """As many whole blocks as `num` holds for the layers that have the most; the others down to where those
        are."""
        cap = ranks.max() - demand.num // demand.block * demand.block
        return (ranks - cap).clamp(min=0)


@dataclass(frozen=True)
class Global:
    """All layers compete: costs estimate one loss, so they can be compared. Counts are over all layers.

    The layers' sequences are merged in order of cost; a removal that is cheaper than the one before it in its own
    layer (its predecessor had to go first) counts at the predecessor's cost. Blocks compete by their summed cost. Ties
    go by layer, then by position, and the choice is by position in the sorted order, never by a threshold.
    """

    per_parameter: bool
    """Costs are per parameter freed (d_in + d_out for a component), and so is the target: what is left has no more
    parameters than layers of the (mean) target rank. Otherwise components compete, and count, whatever their width; a
    ladder's budget of parameters is then met by taking the cheapest components until they fit."""

    @property
    def unit(self) -> Unit:
        """As `per_parameter` says, of all layers."""
        return "parameters" if self.per_parameter else "components"

    def goal(self, start: Start, target: Target) -> Goal:
        """What is to go of all layers."""
        return global_goal(start, target, self.per_parameter)

    def least_due(self, goal: Goal, block: int) -> int:
        """A block, or any parameter: then a whole block goes."""
        return 1 if goal.unit == "parameters" else block

    def num_removed(self, start: Start, ranks: Sequence[int], widths: Sequence[int], goal: Goal) -> int:
        """Components, or parameters, over all layers."""
        sizes: Sequence[int] = widths if goal.unit == "parameters" else [1] * len(ranks)
        return start.size(goal.unit) - sum(size * rank for size, rank in zip(sizes, ranks, strict=True))

    def counts(self, cost: Tensor, ranks: Tensor, widths: Tensor, demand: Demand) -> Tensor:
        """The cheapest removals over all layers."""
        size = demand.block
        num_blocks = cost.shape[1] // size
        if size > 1:
            cost = cost[:, : num_blocks * size].view(len(cost), num_blocks, size).sum(-1)
            ranks = ranks // size
        floor = -(-demand.min_rank // size)
        counts_parameters = (demand.unit or self.unit) == "parameters"
        freed = size * (widths if counts_parameters else torch.ones_like(widths))  # by one block of each layer
        position = torch.arange(num_blocks, device=cost.device)
        allowed = position < (ranks - floor)[:, None]
        running = cost.cummax(1).values
        if self.per_parameter:
            running = running / widths[:, None]
        merged = torch.where(allowed, running, torch.inf).flatten()
        order = merged.argsort(stable=True)
        excess = torch.zeros_like(allowed).flatten()
        if demand.most_rank is not None:
            excess = (position < (ranks - demand.most_rank // size)[:, None]).flatten()
            order = order[(~excess[order]).to(torch.uint8).argsort(stable=True)]
        freed_in_order = freed[:, None].expand_as(cost).flatten()[order]
        freed_before = freed_in_order.cumsum(0) - freed_in_order
        # Components are taken while a whole block is still due, parameters until enough are freed.
        due = freed_before < demand.num if counts_parameters else freed_before + freed_in_order <= demand.num
        if demand.completes:
            due |= excess[order]
        # Stable, and running maxima never fall along a layer: each layer's share is a prefix of its sequence.
        taken = torch.zeros_like(merged, dtype=torch.int64)
        taken[order] = due.long()
        return size * taken.view_as(cost).sum(1)


uniform = register("allocation", "uniform")(Uniform())
global_ = register("allocation", "global")(Global(per_parameter=False))
global_per_parameter = register("allocation", "global_per_parameter")(Global(per_parameter=True))
