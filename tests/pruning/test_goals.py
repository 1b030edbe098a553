"""Goals on layers of unequal widths and ranks: budgets of a ladder against the law, targets of a schedule, refusals."""

import math
import random
from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from prunedlora.pruning.allocation import Demand
from prunedlora.pruning.goals import falling_goals
from prunedlora.pruning.target import MinRankError, Start, Target, targets_of
from prunedlora.registry import lookup, names
from prunedlora.servers.served_slot import SERVED_SLOTS
from tests.pairwise import parametrize_pairwise

WIDTHS = [4, 8, 4, 6, 16]
EQUAL, UNEQUAL = [16] * 5, [16, 8, 4, 24, 12]
SIZES = {
    "parameters": (400, 283, 200, 152, 80, 40),
    "mean_rank": (8, 6.7, 4, 2.5, 1.25, 0.6),
    "kept": (0.7, 0.49, 0.3, 0.21, 0.13, 0.07),
}


def goals_of(allocation, start, unit, sizes, min_rank=0, round_to=None):
    targets = [Target(unit, size, min_rank, round_to, rung) for rung, size in enumerate(sizes, start=1)]
    return falling_goals(lookup("allocation", allocation).goal, start, targets), targets


def possible(allocation, start, unit, min_rank, round_to):
    """Those of SIZES that may be rungs, and the goals; the others are refused, as what is equal to the one before."""
    sizes = []
    for size in SIZES[unit]:
        try:
            goals_of(allocation, start, unit, [*sizes, size], min_rank, round_to)
        except ValueError:
            continue
        sizes.append(size)
    return sizes, *goals_of(allocation, start, unit, sizes, min_rank, round_to)


def brute_budget(unit, size, counted, ranks):
    """In what is counted: components or parameters."""
    widths = WIDTHS if counted == "parameters" else [1] * len(WIDTHS)
    of = {"parameters": 1, "mean_rank": sum(widths), "kept": sum(w * r for w, r in zip(widths, ranks, strict=True))}
    return math.floor(Fraction(str(size)) * of[unit])


@parametrize_pairwise(
    allocation=tuple(names("allocation")),
    unit=tuple(SIZES),
    round_to=(None, 4, "served_slot"),
    min_rank=(0, 1, 3),
    ranks=(tuple(EQUAL), tuple(UNEQUAL)),
    num_events=(1, 3),
)
def test_never_above_the_budget_and_below_it_by_less_than_what_was_removed_last(
    allocation, unit, round_to, min_rank, ranks, num_events
):
    """Costs at random, ties among them, in one event a rung or in several; a rung's removal complete."""
    start, rule = Start.of(ranks, WIDTHS), lookup("allocation", allocation)
    sizes, goals, targets = possible(allocation, start, unit, min_rank, round_to)
    assert sizes
    counted = "parameters" if unit == "parameters" or allocation == "global_per_parameter" else "components"
    size_of = torch.tensor(WIDTHS) if counted == "parameters" else torch.ones(5, dtype=torch.int64)
    block = targets[0].block
    generator = torch.Generator().manual_seed(7)
    now, gone_before = torch.tensor(ranks), 0
    for size, goal in zip(sizes, goals, strict=True):
        for event in range(1, num_events + 1):
            done = rule.num_removed(start, now.tolist(), WIDTHS, goal)
            num = gone_before + (goal.num - gone_before) * event // num_events - done
            cost = torch.randint(1, 5, (5, int(now.max())), generator=generator).double().cumsum(1)
            cost[torch.arange(cost.shape[1]) >= now[:, None]] = torch.inf
            is_last = event == num_events
            demand = Demand(max(num, 0), min_rank, block, goal.most_rank, goal.unit, is_last)
            lost = rule.counts(cost, now, torch.tensor(WIDTHS), demand)
            assert (lost >= 0).all()
            now = now - lost
        gone_before = goal.num
        left, budget = int((now * size_of).sum()), brute_budget(unit, size, counted, ranks)
        if unit == "mean_rank" and allocation == "uniform":
            assert now.tolist() == [min(rank, _largest(size, block, round_to)) for rank in ranks]
        else:
            assert left <= budget
        assert left > 0
        assert not (now % block).any()
        assert all(rank >= min(min_rank, first) for rank, first in zip(now.tolist(), ranks, strict=True))
        if round_to == "served_slot":
            if allocation == "uniform":
                assert int(now.max()) in SERVED_SLOTS
            else:
                mean = budget / int(size_of.sum())
                assert int(now.max()) <= min(slot for slot in SERVED_SLOTS if slot >= mean)
        elif allocation == "uniform" and unit != "mean_rank":
            cap = int(now.max())  # one block more in every layer that has it would be too much
            assert sum(int(s) * min(rank, cap + block) for s, rank in zip(size_of, ranks, strict=True)) > budget
        elif allocation != "uniform":
            assert left > budget - block * int(size_of.max())


def _largest(size, block, round_to):
    return max(slot for slot in SERVED_SLOTS if slot <= size) if round_to == "served_slot" else size // block * block


@pytest.mark.parametrize("seed", range(30))
def test_uniform_fits_the_budget_as_brute_force_finds(seed):
    draw = random.Random(seed)
    ranks = [draw.randint(1, 12) for _ in range(6)]
    widths = [draw.choice([3, 5, 8]) for _ in ranks]
    start = Start.of(ranks, widths)
    sizes = [sum(w * min(r, cap) for r, w in zip(ranks, widths, strict=True)) for cap in range(max(ranks) + 1)]
    budget = draw.randint(sizes[1], sizes[-1] - 1)
    ((goal,), _) = goals_of("uniform", start, "parameters", [budget])
    cap = max(cap for cap, size in enumerate(sizes) if size <= budget)
    assert goal.num == max(ranks) - cap


def test_a_share_is_of_what_is_written():
    start = Start.of([10] * 10, [1] * 10)
    assert [goals_of("global", start, "kept", [kept])[0][0].num for kept in (0.29, 0.57, 0.07)] == [71, 43, 93]
    assert goals_of("global", start, "mean_rank", [0.7])[0][0].num == 93


def test_targets_of_a_schedule_on_unequal_ranks():
    start = Start.of([16, 8, 4], [1, 1, 2])

    def num(allocation, sparsity, rank, *rest):
        return (
            lookup("allocation", allocation).goal(start, targets_of(None, sparsity, rank, *(rest or (0, None)))[0]).num
        )

    assert num("uniform", None, 6) == 10  # 6, 6, 4
    assert num("uniform", 0.5, None) == 11  # 5, 5, 4 are 14 of 28
    assert num("uniform", 0.0, None) == 0
    assert num("uniform", 0.4, None, 0, 4) == 8  # 8, 8, 4 are nearer to 16.8 than 4, 4, 4
    assert num("uniform", 0.4, None, 1, "served_slot") == 8
    assert num("global", None, 4) == 16
    assert num("global", 0.25, None) == 7
    assert num("global_per_parameter", None, 4) == 16  # of 32 parameters 16 stay
    with pytest.raises(ValueError, match=r"target_rank 10 must lie between 0 and the initial rank 9.33333"):
        num("global", None, 10)
    with pytest.raises(ValueError, match="target_rank 17 must lie between 0 and the initial ranks 4 to 16"):
        num("uniform", None, 17)
    with pytest.raises(
        MinRankError, match="of initial ranks 4 to 16 removes 15 of 16 components, but min_rank 2 allows 14"
    ):
        num("uniform", None, 1, 2, None)


@pytest.mark.parametrize(
    ("allocation", "unit", "sizes", "min_rank", "round_to", "message"),
    [
        ("global", "parameters", [700], 0, None,
         r"rung 1 of the ladder \(parameters 700\) removes nothing: the adapter has 608 parameters; "
         r"take less"),
        ("uniform", "parameters", [608], 0, None, "removes nothing: the adapter has 608 parameters"),
        ("uniform", "mean_rank", [16], 0, None, "removes nothing: the adapter has rank 16; take less"),
        ("global", "mean_rank", [16], 0, None, "removes nothing: the adapter has mean_rank 16"),
        ("uniform", "mean_rank", [2.5], 0, None,
         "mean_rank 2.5.: a mean_rank of allocation 'uniform' is every layer's and must be whole"),
        ("global", "mean_rank", [4, 1.5], 2, None,
         r"rung 2 of the ladder \(mean_rank 1.5\) is below what min_rank 2 keeps; take at least mean_rank "
         r"2"),
        ("global_per_parameter", "parameters", [40, 15], 0, None,
         "parameters 15. is below what a component of the widest layer takes; take at least parameters 16"),
        ("global_per_parameter", "parameters", [100, 63], 0, 4,
         "a block of 4 of the widest layer takes; take at least parameters 64"),
        ("global", "kept", [0.1], 2, None, "kept 0.1. is below what min_rank 2 keeps; take at least kept 0.125"),
        ("uniform", "parameters", [75], 2, None,
         "parameters 75. is below what min_rank 2 keeps; take at least parameters 76"),
        ("uniform", "parameters", [37], 0, None,
         "below rank 1 of every layer, the least that uniform keeps; take at least parameters 38"),
        ("uniform", "kept", [0.05], 0, "served_slot", "rank 1 of every layer with round_to served_slot, the least"),
        ("uniform", "mean_rank", [2], 1, 4,
         "is below what min_rank 1 in blocks of 4 keeps; take at least mean_rank 4"),
        ("uniform", "mean_rank", [4], 2,
         "served_slot", "min_rank 2 with round_to served_slot keeps; take at least mean_rank 8"),
        ("uniform", "mean_rank", [4], 9, "served_slot", "served_slot allows nothing below the initial rank 16"),
        ("global", "kept", [0.5], 16, None, "min_rank 16 allows nothing below the initial rank 16"),
        ("uniform", "kept", [0.5], 17, "served_slot", "no served slot lies between min_rank 17 and initial rank 16"),
        ("uniform", "parameters", [150, 120], 0, None,
         r"rung 2 of the ladder \(parameters 120\) comes out as rung 1 of the ladder \(parameters 150\) "
         r"does: no adapter of these layers lies between the two; leave one of them out"),
        ("global", "parameters", [101, 100], 0, None, "parameters 100. comes out as"),
        ("global", "mean_rank", [3.9, 3.85], 0, None, "mean_rank 3.85. comes out as"),
        ("global", "mean_rank", [3.5, 3.3], 0, 4, "mean_rank 3.3. comes out as"),
        ("global", "kept", [0.5], 0, 3, "round_to 3 does not divide the initial rank 16"),
    ],
)  # fmt: skip
def test_rungs_that_cannot_be_are_refused(allocation, unit, sizes, min_rank, round_to, message):
    with pytest.raises(ValueError, match=message):
        goals_of(allocation, Start.of(EQUAL, WIDTHS), unit, sizes, min_rank, round_to)


def test_ranks_that_are_no_multiples_are_refused():
    with pytest.raises(ValueError, match="round_to 4 does not divide the initial ranks 6, 10"):
        goals_of("global", Start.of([6, 8, 10], [1, 1, 1]), "kept", [0.5], 0, 4)


def test_a_slot_below_min_rank_is_refused():
    start = Start.of([16, 1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="min_rank 9 is above the served slot 8 that holds its mean"):
        goals_of("global", start, "kept", [0.7], 9, "served_slot")


def test_what_is_above_the_slot_goes_beyond_the_budget():
    rule, start = lookup("allocation", "global"), Start.of([16, 4, 4], [1, 1, 1])
    ((goal,), _) = goals_of("global", start, "mean_rank", [7], 1, "served_slot")
    assert (goal.num, goal.most_rank) == (3, 8)
    cost, ranks, widths = torch.ones(3, 16), torch.tensor([16, 4, 4]), torch.ones(3, dtype=torch.int64)
    for completes, lost in ((False, [3, 0, 0]), (True, [8, 0, 0])):
        demand = Demand(3, 1, 1, goal.most_rank, goal.unit, completes)
        assert rule.counts(cost, ranks, widths, demand).tolist() == lost


def test_goals_fall():
    start = Start.of(UNEQUAL, WIDTHS)
    for allocation in names("allocation"):
        goals, _ = goals_of(allocation, start, "kept", [0.7, 0.5, 0.3, 0.1])
        assert all(after.num > before.num > 0 for before, after in pairwise(goals))
