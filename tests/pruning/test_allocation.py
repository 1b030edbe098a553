import pytest
import torch

from prunedlora.pruning.allocation import Demand
from prunedlora.pruning.target import MinRankError, Start, targets_of
from prunedlora.registry import lookup, names
from prunedlora.servers.served_slot import SERVED_SLOTS

uniform, global_ = lookup("allocation", "uniform"), lookup("allocation", "global")
per_parameter = lookup("allocation", "global_per_parameter")


WIDTH = 36
"""Parameters of one component of every layer together, where only components count."""


def target(sparsity, rank, min_rank, round_to=None):
    return targets_of(None, sparsity, rank, min_rank, round_to)[0]


def num_to_remove(allocation, layers, width, initial, *values):
    """Of `layers` layers that start at rank `initial`, one component of all of them of `width` parameters."""
    assert width % layers == 0
    return allocation.goal(Start({(initial, width // layers): layers}), target(*values)).num


def most_rank(allocation, initial, *values):
    return allocation.goal(Start({(initial, 12): 3}), target(*values)).most_rank


def counts(allocation, cost, ranks, num, min_rank=0, widths=None, **demand):
    widths = torch.ones(len(ranks), dtype=torch.int64) if widths is None else torch.tensor(widths)
    return allocation.counts(cost, torch.tensor(ranks), widths, Demand(num, min_rank, **demand)).tolist()


@pytest.mark.parametrize("name", names("allocation"))
class TestConformance:
    """What every registered allocation promises."""

    @pytest.mark.parametrize(
        ("min_rank", "target_rank", "round_to"),
        [(0, 0, None), (1, 1, None), (3, 3, None), (0, 4, 4), (1, 4, 2), (1, 8, 8), (1, 8, "served_slot")],
    )
    def test_the_count_is_exact_and_the_floor_holds_at_every_event(self, name, min_rank, target_rank, round_to):
        allocation = lookup("allocation", name)
        generator = torch.Generator().manual_seed(0)
        initial, layers = 16, 5
        aim = target(None, target_rank, min_rank, round_to)
        widths = torch.tensor([4, 8, 4, 4, 16])
        start = Start.of([initial] * layers, widths.tolist())
        goal = allocation.goal(start, aim)
        total = goal.num
        ranks = torch.full((layers,), initial)
        of_one = int(widths.max()) * aim.block if goal.unit == "parameters" else 1
        for due in [*range(0, total, 3), total]:
            done = allocation.num_removed(start, ranks.tolist(), widths.tolist(), goal)
            num = due - done
            if num < allocation.least_due(goal, aim.block):
                continue
            k = min(max(num, aim.block), int(ranks.max()) - min_rank)
            cost = torch.rand(layers, max(k, 0), generator=generator)
            cost[torch.arange(cost.shape[1]) >= ranks[:, None]] = torch.inf
            cost[0] = 0
            demand = Demand(num, min_rank, aim.block, goal.most_rank)
            lost = allocation.counts(cost, ranks, widths, demand)
            assert lost.dtype == torch.int64
            assert (lost >= 0).all()
            ranks = ranks - lost
            assert (ranks >= min_rank).all()
            assert not (ranks % aim.block).any()
            removed = allocation.num_removed(start, ranks.tolist(), widths.tolist(), goal)
            if of_one > 1:
                assert due <= removed < due + of_one
            else:
                assert removed == due // aim.block * aim.block
        left = int((ranks * widths).sum())
        if of_one > 1:
            assert target_rank * int(widths.sum()) - of_one < left <= target_rank * int(widths.sum())
        else:
            assert allocation.num_removed(start, ranks.tolist(), widths.tolist(), goal) == total
        if round_to == "served_slot":
            assert int(ranks.max()) in SERVED_SLOTS

    def test_nothing_to_remove(self, name):
        assert num_to_remove(lookup("allocation", name), 3, WIDTH, 8, 0.0, None, 1) == 0
        assert num_to_remove(lookup("allocation", name), 3, WIDTH, 8, None, 8, 1) == 0

    @pytest.mark.parametrize(
        ("sparsity", "rank", "min_rank", "message"),
        [
            (None, 9, 1, "target_rank 9 must lie between 0 and the initial rank 8"),
            (1.5, None, 0, "target_sparsity 1.5 must lie between 0 and 1"),
            (None, None, 1, r"give exactly one of target_sparsity \(None\) and target_rank \(None\)"),
            (0.5, 4, 1, r"give exactly one of target_sparsity \(0.5\) and target_rank \(4\)"),
        ],
    )
    def test_targets_that_cannot_be_are_refused(self, name, sparsity, rank, min_rank, message):
        with pytest.raises(ValueError, match=message):
            num_to_remove(lookup("allocation", name), 4, WIDTH, 8, sparsity, rank, min_rank)

    @pytest.mark.parametrize(("sparsity", "rank", "min_rank"), [(0.9, None, 2), (None, 2, 3)])
    def test_targets_that_min_rank_forbids_are_refused(self, name, sparsity, rank, min_rank):
        what = rf"removes \d+ of \d+ {lookup('allocation', name).unit}"
        message = rf"target_\w+ [\d.]+ of initial rank 8 {what}, but min_rank {min_rank} allows"
        with pytest.raises(MinRankError, match=message):
            num_to_remove(lookup("allocation", name), 4, WIDTH, 8, sparsity, rank, min_rank)

    def test_a_block_that_does_not_divide_the_initial_rank_is_refused(self, name):
        with pytest.raises(ValueError, match="round_to 3 does not divide the initial rank 8"):
            num_to_remove(lookup("allocation", name), 4, WIDTH, 8, 0.5, None, 1, 3)


def test_totals():
    assert [allocation.unit for allocation in (uniform, global_, per_parameter)] == [
        "components",
        "components",
        "parameters",
    ]
    assert num_to_remove(uniform, 12, WIDTH, 16, 0.75, None, 1) == 12
    assert num_to_remove(uniform, 12, WIDTH, 10, 0.25, None, 1) == 3  # 2.5 rounds up
    assert num_to_remove(uniform, 12, WIDTH, 16, None, 4, 1) == 12
    assert num_to_remove(global_, 12, WIDTH, 10, 0.25, None, 1) == 30
    assert num_to_remove(global_, 3, WIDTH, 5, 0.5, None, 1) == 8  # 7.5 rounds up
    assert num_to_remove(global_, 12, WIDTH, 16, None, 4, 1) == 144
    assert num_to_remove(per_parameter, 3, WIDTH, 16, None, 4, 1) == 432  # 12 of 16 components, 36 parameters
    assert num_to_remove(per_parameter, 3, WIDTH, 16, 0.7, None, 1) == 403  # of 576: 403.2
    assert num_to_remove(per_parameter, 3, WIDTH, 16, 0.7, None, 1, 4) == 403  # blocks round nothing here


def test_totals_in_blocks_and_on_slots():
    assert num_to_remove(uniform, 12, WIDTH, 32, 0.6, None, 1, 8) == 16  # rank 12.8: 16 is nearer than 8
    assert num_to_remove(global_, 3, WIDTH, 16, 0.5, None, 1, 4) == 24
    assert num_to_remove(global_, 3, WIDTH, 16, 0.4, None, 1, 4) == 20  # 19.2
    assert num_to_remove(uniform, 12, WIDTH, 64, 0.8, None, 1, "served_slot") == 48  # rank 12.8: slot 16
    assert num_to_remove(uniform, 12, WIDTH, 16, 0.25, None, 1, "served_slot") == 8  # rank 12: of 8 and 16 the smaller
    assert num_to_remove(uniform, 12, WIDTH, 64, None, 8, 1, "served_slot") == 56
    assert most_rank(global_, 64, 0.8, None, 1, "served_slot") == 16
    assert most_rank(global_, 64, None, 8, 1, "served_slot") == 8
    assert most_rank(global_, 64, None, 8, 1, 8) is None


def test_ranks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="target_rank 12 is no multiple of round_to 8"):
        num_to_remove(uniform, 3, WIDTH, 32, None, 12, 1, 8)
    with pytest.raises(ValueError, match="target_rank 12 is no served slot; those are 1, 8, 16"):
        num_to_remove(uniform, 3, WIDTH, 32, None, 12, 1, "served_slot")
    with pytest.raises(ValueError, match="no served slot lies between min_rank 2 and initial rank 6"):
        num_to_remove(uniform, 3, WIDTH, 6, 0.5, None, 2, "served_slot")


def test_uniform_takes_the_same_of_every_layer():
    assert counts(uniform, torch.rand(3, 2), [5, 5, 5], 2, 1) == [2, 2, 2]
    assert counts(uniform, torch.rand(3, 7), [8, 8, 8], 7, 1, block=4) == [4, 4, 4]


def test_global_takes_the_cheapest():
    cost = torch.tensor([[0.1, 0.2, 9.0], [5.0, 6.0, 7.0], [0.15, 0.3, 0.4]])
    assert counts(global_, cost, [4, 4, 4], 4, 1) == [2, 0, 2]


def test_costs_per_parameter_spare_narrow_layers():
    cost = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert counts(global_, cost, [2, 2], 2, widths=[10, 100]) == [2, 0]
    assert counts(per_parameter, cost, [2, 2], 200, widths=[10, 100]) == [0, 2]
    assert counts(per_parameter, cost, [2, 2], 20, widths=[10, 10]) == [2, 0]


def test_parameters_are_freed_until_there_are_enough():
    cost = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    freed = {1: [0, 1], 100: [0, 1], 101: [0, 2], 200: [0, 2], 201: [1, 2], 211: [2, 2]}
    for num, lost in freed.items():
        assert counts(per_parameter, cost, [2, 2], num, widths=[10, 100]) == lost
    assert counts(per_parameter, cost, [2, 2], 1, widths=[10, 100], block=2) == [0, 2]


def test_blocks_compete_by_their_sum():
    cost = torch.tensor([[0.1, 9.0, 9.0, 9.0], [1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
    assert counts(global_, cost, [4, 4, 4], 4, block=2) == [0, 4, 0]
    assert counts(global_, cost, [4, 4, 4], 4, 1, block=2) == [0, 2, 2]  # min_rank 1 in blocks of 2 is 2


def test_what_is_above_the_slot_goes_first():
    cost = torch.tensor([[9.0, 9.5, 9.9, 9.9], [0.1, 0.2, 0.3, 0.4]])
    assert counts(global_, cost, [10, 8], 2) == [0, 2]
    assert counts(global_, cost, [10, 8], 2, most_rank=8) == [2, 0]
    assert counts(global_, cost, [10, 8], 3, most_rank=8) == [2, 1]


def test_a_cheap_removal_behind_a_dear_one_costs_what_leads_to_it():
    cost = torch.tensor([[5.0, 0.0], [1.0, 2.0]])
    assert counts(global_, cost, [2, 2], 2) == [0, 2]
    assert counts(global_, cost, [2, 2], 3) == [1, 2]


def test_ties_go_by_layer_and_never_remove_more_than_the_budget():
    cost = torch.zeros(3, 4)
    assert counts(global_, cost, [4, 4, 4], 5) == [4, 1, 0]
    assert counts(global_, cost, [4, 4, 4], 5, 2) == [2, 2, 1]
