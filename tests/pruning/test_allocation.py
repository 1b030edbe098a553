import pytest
import torch

from prunedlora.registry import lookup, names

uniform, global_ = lookup("allocation", "uniform"), lookup("allocation", "global")


@pytest.mark.parametrize("name", names("allocation"))
class TestConformance:
    """What every registered allocation promises."""

    @pytest.mark.parametrize("min_rank", [0, 1, 3])
    def test_the_count_is_exact_and_the_floor_holds_at_every_event(self, name, min_rank):
        allocation = lookup("allocation", name)
        generator = torch.Generator().manual_seed(0)
        initial, layers = 8, 5
        total = allocation.num_to_remove(layers, initial, None, min_rank, min_rank)
        ranks = torch.full((layers,), initial)
        for due in range(0, total + 1, 2):
            done = allocation.num_removed_so_far(ranks.tolist(), initial)
            num = due - done
            k = min(num, int(ranks.max()) - min_rank)
            cost = torch.rand(layers, max(k, 0), generator=generator)
            cost[torch.arange(cost.shape[1]) >= ranks[:, None]] = torch.inf
            cost[0] = 0
            counts = allocation.counts(cost, ranks, num, min_rank)
            assert counts.dtype == torch.int64
            assert (counts >= 0).all()
            ranks = ranks - counts
            assert (ranks >= min_rank).all()
            assert allocation.num_removed_so_far(ranks.tolist(), initial) == due

    def test_nothing_to_remove(self, name):
        assert lookup("allocation", name).num_to_remove(3, 8, 0.0, None, 1) == 0
        assert lookup("allocation", name).num_to_remove(3, 8, None, 8, 1) == 0

    @pytest.mark.parametrize(
        ("sparsity", "rank", "min_rank", "message"),
        [
            (None, 9, 1, "target_rank 9 must lie between 0 and the initial rank 8"),
            (1.5, None, 0, "target_sparsity 1.5 must lie between 0 and 1"),
            (
                0.9,
                None,
                2,
                r"target_sparsity 0.9 of initial rank 8 removes \d+ of \d+ components, but min_rank 2 allows",
            ),
            (None, 2, 3, r"target_rank 2 of initial rank 8 removes \d+ of \d+ components, but min_rank 3 allows \d+"),
            (None, None, 1, r"give exactly one of target_sparsity \(None\) and target_rank \(None\)"),
            (0.5, 4, 1, r"give exactly one of target_sparsity \(0.5\) and target_rank \(4\)"),
        ],
    )
    def test_targets_that_cannot_be_are_refused(self, name, sparsity, rank, min_rank, message):
        with pytest.raises(ValueError, match=message):
            lookup("allocation", name).num_to_remove(4, 8, sparsity, rank, min_rank)


def test_totals():
    assert uniform.num_to_remove(12, 16, 0.75, None, 1) == 12
    assert uniform.num_to_remove(12, 10, 0.25, None, 1) == 3  # 2.5 rounds up
    assert uniform.num_to_remove(12, 16, None, 4, 1) == 12
    assert global_.num_to_remove(12, 10, 0.25, None, 1) == 30
    assert global_.num_to_remove(3, 5, 0.5, None, 1) == 8  # 7.5 rounds up
    assert global_.num_to_remove(12, 16, None, 4, 1) == 144


def test_uniform_takes_the_same_of_every_layer():
    assert uniform.counts(torch.rand(3, 2), torch.tensor([5, 5, 5]), 2, 1).tolist() == [2, 2, 2]


def test_global_takes_the_cheapest():
    cost = torch.tensor([[0.1, 0.2, 9.0], [5.0, 6.0, 7.0], [0.15, 0.3, 0.4]])
    assert global_.counts(cost, torch.tensor([4, 4, 4]), 4, 1).tolist() == [2, 0, 2]


def test_a_cheap_removal_behind_a_dear_one_costs_what_leads_to_it():
    cost = torch.tensor([[5.0, 0.0], [1.0, 2.0]])
    assert global_.counts(cost, torch.tensor([2, 2]), 2, 0).tolist() == [0, 2]
    assert global_.counts(cost, torch.tensor([2, 2]), 3, 0).tolist() == [1, 2]


def test_ties_go_by_layer_and_never_remove_more_than_the_budget():
    cost = torch.zeros(3, 4)
    assert global_.counts(cost, torch.tensor([4, 4, 4]), 5, 0).tolist() == [4, 1, 0]
    assert global_.counts(cost, torch.tensor([4, 4, 4]), 5, 2).tolist() == [2, 2, 1]
