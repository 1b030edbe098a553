"""Goals: from targets to numbers, for the rule of allocation uniform and for those that count over all layers.

Pure functions on what there is at the start; whatever cannot be is refused before anything is trained. Layers may start
at unequal ranks. No torch here.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from prunedlora.pruning.target import SERVED_SLOT, Goal, MinRankError, Start, Target, Unit
from prunedlora.servers.served_slot import SERVED_SLOTS


def falling_goals(goal: Callable[[Start, Target], Goal], start: Start, targets: Sequence[Target]) -> tuple[Goal, ...]:
    """The goal of each target, in order. Raises ValueError for one that cannot be, or that comes out as the one before
    it."""
    goals = tuple(goal(start, target) for target in targets)
    for (before, first), (target, second) in pairwise(zip(targets, goals, strict=True)):
        if second.num <= first.num:
            raise ValueError(
                f"{target} comes out as {before} does: no adapter of these layers lies between the two; leave one of "
                "them out"
            )
    return goals


def uniform_goal(start: Start, target: Target) -> Goal:
    """Every layer ends at min(its rank, one cap).

    target_rank: the cap. target_sparsity: the cap at which the share of the components that is gone lies nearest (of
    two, the smaller); in whole blocks, or at served slots. On a ladder: the largest cap, in whole blocks or a served
    slot, that fits the budget; mean_rank, which must be whole, is the cap itself.
    """
    _check_blocks(start, target)
    if target.kind in ("target_sparsity", "target_rank"):
        cap = _cap_of_schedule(start, target)
    else:
        cap = _cap_of_rung(start, target)
    return Goal(start.max_rank - cap, "components")


def global_goal(start: Start, target: Target, per_parameter: bool) -> Goal:
    """All layers together end at a number of components, or of parameters: `per_parameter`, or where a ladder's budgets
    are parameters.

    target_rank: the mean rank (as many parameters as layers of it). target_sparsity: ⌊sparsity · all + ½⌋ go, of
    components in whole blocks. On a ladder: never more than the budget, mean_rank and kept rounded down.
    """
    _check_blocks(start, target)
    unit: Unit = "parameters" if per_parameter or target.kind == "parameters" else "components"
    rank_1, total = start.size_of_rank_1(unit), start.size(unit)
    if target.kind in ("target_sparsity", "target_rank"):
        num = _removals(start, target, unit)
        if unit == "components":
            num = num // target.block * target.block
        mean = target.size if target.kind == "target_rank" else total / rank_1 * (1 - target.size)
    else:
        budget, grain = _budget(start, target, unit), _grain(start, target, unit)
        _check_below_start(start, target, unit, budget)
        num = -(-(total - budget) // grain) * grain
        # Of parameters the last that is left may be of the widest layer: what does not hold it may leave nothing.
        least = max(start.size(unit, target.floor), _widest(start, target, unit))
        if least >= total:
            raise MinRankError(f"{target}: min_rank {target.min_rank} allows nothing below the initial {start.words}")
        if total - num < least:
            keeps = f"min_rank {target.min_rank} keeps"
            if least == _widest(start, target, unit):
                of_one = "a component" if target.block == 1 else f"a block of {target.block}"
                keeps = f"{of_one} of the widest layer takes"
            raise MinRankError(f"{target} is below what {keeps}; take at least {_in_words(start, target, unit, least)}")
        mean = budget / rank_1
    return Goal(num, unit, _smallest_slot(start, target, mean) if target.round_to == SERVED_SLOT else None)


def _check_blocks(start: Start, target: Target) -> None:
    if wrong := sorted({rank for rank, _ in start.layers if rank % target.block}):
        ranks = f"the initial rank {wrong[0]}" if len(wrong) == 1 else f"the initial ranks {', '.join(map(str, wrong))}"
        raise ValueError(f"round_to {target.block} does not divide {ranks}")


def _removals(start: Start, target: Target, unit: Unit, of_one_layer: bool = False) -> int:
    """How much of a schedule's target goes: in `unit`, or components of the layer that has the most."""
    rank, total, rank_1 = start.max_rank, start.size(unit), start.size_of_rank_1(unit)
    allowed = total - start.size(unit, target.floor)
    if of_one_layer:
        total, rank_1, allowed = rank, 1, max(rank - target.floor, 0)
    if target.kind == "target_rank":
        if not 0 <= target.size * rank_1 <= total:
            there = start.words if of_one_layer else f"rank {total / rank_1:g}"
            raise ValueError(f"{target} must lie between 0 and the initial {there}")
        num = total - int(target.size) * rank_1
    elif not 0 <= target.size <= 1:
        raise ValueError(f"{target} must lie between 0 and 1")
    elif of_one_layer:
        num = rank - _nearest_cap(start, target)
    else:
        whole = target.block if unit == "components" else 1
        num = math.floor(target.size * total / whole + 0.5) * whole
    if num > allowed:
        raise MinRankError(
            f"{target} of initial {start.words} removes {num} of {total} {unit}, "
            f"but min_rank {target.min_rank} allows {allowed}"
        )
    return num


def _nearest_cap(start: Start, target: Target) -> int:
    """The cap at which a sparsity lies nearest; of two, the smaller."""
    layers = start.size_of_rank_1("components")
    total = start.size("components")
    due = target.size * (total / layers)
    caps = range(0, start.max_rank + 1, target.block)
    return min(caps, key=lambda cap: (abs((total - start.size("components", cap)) / layers - due), cap))


def _cap_of_schedule(start: Start, target: Target) -> int:
    cap = start.max_rank - _removals(start, target, "components", of_one_layer=True)
    if target.round_to is None:
        return cap
    if target.round_to != SERVED_SLOT:
        if cap % target.block:
            raise ValueError(f"target_rank {cap} is no multiple of round_to {target.block}")
        return cap
    if target.kind == "target_rank" and cap not in SERVED_SLOTS:
        raise ValueError(f"target_rank {cap} is no served slot; those are {', '.join(map(str, SERVED_SLOTS))}")
    reachable = _reachable_slots(start, target)
    layers = start.size_of_rank_1("components")
    exact = start.size("components") / layers * (1 - target.size) if target.kind == "target_sparsity" else cap
    return min(reachable, key=lambda slot: (abs(start.size("components", slot) / layers - exact), slot))


def _reachable_slots(start: Start, target: Target) -> list[int]:
    reachable = [slot for slot in SERVED_SLOTS if target.min_rank <= slot <= start.max_rank]
    if not reachable:
        raise ValueError(f"no served slot lies between min_rank {target.min_rank} and initial rank {start.max_rank}")
    return reachable


def _cap_of_rung(start: Start, target: Target) -> int:
    if target.kind == "mean_rank" and target.size != int(target.size):
        raise ValueError(f"{target}: a mean_rank of allocation 'uniform' is every layer's and must be whole")
    unit: Unit = "parameters" if target.kind == "parameters" else "components"
    if target.kind != "mean_rank":
        _check_below_start(start, target, unit, _budget(start, target, unit))
    elif target.size >= start.max_rank:
        raise ValueError(f"{target} removes nothing: the adapter has {start.words}; take less")
    if target.round_to == SERVED_SLOT:
        caps, rounded = _reachable_slots(start, target), " with round_to served_slot"
    else:
        caps = list(range(max(target.floor, target.block), start.max_rank + 1, target.block))
        rounded = "" if target.round_to is None else f" in blocks of {target.block}"
    # A layer keeps a component whatever `min_rank`: of a cap of 0 nothing would be left.
    keeper = f"min_rank {target.min_rank}" if target.min_rank > 0 else f"rank {caps[0]} of every layer"
    what = (
        f"what {keeper}{rounded} keeps" if target.min_rank > 0 else f"{keeper}{rounded}, the least that uniform keeps"
    )
    caps = [cap for cap in caps if cap < start.max_rank]
    if not caps:
        raise MinRankError(f"{target}: {keeper}{rounded} allows nothing below the initial {start.words}")
    if target.kind == "mean_rank":
        fitting = [cap for cap in caps if cap <= target.size]
        least = f"mean_rank {caps[0]}"
    else:
        budget = _budget(start, target, unit)
        fitting = [cap for cap in caps if start.size(unit, cap) <= budget]
        least = _in_words(start, target, unit, start.size(unit, caps[0]))
    if not fitting:
        raise MinRankError(f"{target} is below {what}; take at least {least}")
    return fitting[-1]


def _budget(start: Start, target: Target, unit: Unit) -> int:
    """The most that may be left, in `unit`."""
    if target.kind == "parameters":
        return int(target.size)
    return target.share_of(start.size_of_rank_1(unit) if target.kind == "mean_rank" else start.size(unit))


def _check_below_start(start: Start, target: Target, unit: Unit, budget: int) -> None:
    if budget >= start.size(unit):
        size = start.size(unit)
        there = f"{size} parameters" if target.kind == "parameters" else _in_words(start, target, unit, size)
        raise ValueError(f"{target} removes nothing: the adapter has {there}; take less")


def _grain(start: Start, target: Target, unit: Unit) -> int:
    """What all sizes are multiples of."""
    widths = [width if unit == "parameters" else 1 for _, width in start.layers]
    return math.gcd(*widths) * target.block


def _widest(start: Start, target: Target, unit: Unit) -> int:
    """The most that the removal of one block frees."""
    return max(width if unit == "parameters" else 1 for rank, width in start.layers if rank) * target.block


def _in_words(start: Start, target: Target, unit: Unit, amount: int) -> str:
    """An amount in the target's own unit, rounded up."""
    if target.kind == "parameters":
        return f"parameters {amount}"
    of = start.size_of_rank_1(unit) if target.kind == "mean_rank" else start.size(unit)
    return f"{target.kind} {math.ceil(amount / of * 10_000) / 10_000:g}"


def _smallest_slot(start: Start, target: Target, mean: float) -> int | None:
    """The smallest slot that holds the mean rank; None where none does."""
    # Rounding of the number of removals can leave a little more than the mean: by less than one component a layer.
    slot = next((slot for slot in SERVED_SLOTS if slot >= mean - 1e-9), None)
    if slot is not None and slot < target.floor < start.max_rank:
        raise ValueError(f"{target}: min_rank {target.min_rank} is above the served slot {slot} that holds its mean")
    return slot
