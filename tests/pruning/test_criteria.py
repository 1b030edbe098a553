import itertools

import pytest
import torch
from torch import Tensor

from prunedlora.pruning.recovery import damp, removal_cost
from prunedlora.registry import lookup, names

gradient = lookup("criterion", "gradient")


def problem(seed: int, layers: int = 3, rank: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Gram matrices, curvatures, and all components alive."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(layers, 5, rank, dtype=torch.float64, generator=generator)
    root = torch.randn(layers, rank, rank, dtype=torch.float64, generator=generator)
    curvature = root @ root.mT + 0.1 * torch.eye(rank, dtype=torch.float64)
    return weight.mT @ weight, curvature, torch.ones(layers, rank, dtype=torch.bool)


def mask(order: Tensor, rank: int) -> Tensor:
    return torch.zeros(len(order), rank, dtype=torch.bool).scatter(1, order, True)


@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_downdate_costs_what_the_joint_form_costs(seed):
    gram, curvature, alive = problem(seed)
    sequence = gradient(gram, curvature, alive, 6)
    for k in range(1, 7):
        joint = removal_cost(gram, curvature, mask(sequence.order[:, :k], 6))
        torch.testing.assert_close(sequence.cost[:, :k].sum(1), joint, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_each_choice_is_the_cheapest_next_one_by_brute_force(seed):
    gram, curvature, alive = problem(seed)
    sequence = gradient(gram, curvature, alive, 4)
    for layer, k in itertools.product(range(3), range(4)):
        chosen = sequence.order[layer, :k].tolist()
        costs = {}
        for j in set(range(6)) - set(chosen):
            candidate = torch.zeros(1, 6, dtype=torch.bool)
            candidate[0, [*chosen, j]] = True
            costs[j] = removal_cost(gram[layer][None], curvature[layer][None], candidate).item()
        assert sequence.order[layer, k].item() == min(costs, key=costs.__getitem__)


def test_the_first_score_is_that_of_optimal_brain_surgeon():
    gram, curvature, alive = problem(0)
    scores = 0.5 * gram.diagonal(dim1=1, dim2=2) / torch.linalg.inv(curvature).diagonal(dim1=1, dim2=2)
    sequence = gradient(gram, curvature, alive, 1)
    torch.testing.assert_close(sequence.cost[:, 0], scores.min(1).values, rtol=1e-10, atol=0)


def test_correlated_components_stand_in_for_each_other_once_only():
    """Components 0 and 1 nearly always fire together: each alone is cheap, both are not. Single scores take both."""
    W = torch.diag(torch.tensor([1.0, 1.0, 0.8], dtype=torch.float64))
    H = torch.tensor([[1.0, 0.95, 0.0], [0.95, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    scores = 0.5 * (W.T @ W).diagonal() / torch.linalg.inv(H).diagonal()
    assert scores.argsort()[:2].tolist() == [0, 1]
    sequence = gradient((W.T @ W)[None], H[None], torch.ones(1, 3, dtype=torch.bool), 2)
    assert sequence.order.tolist() == [[0, 2]]


def test_ties_go_to_the_lowest_index():
    eye = torch.eye(4, dtype=torch.float64)[None]
    assert gradient(eye, eye, torch.ones(1, 4, dtype=torch.bool), 4).order.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("name", names("criterion"))
class TestConformance:
    """What every registered criterion promises."""

    def test_orders_are_components_without_repetition_and_costs_are_not_negative(self, name):
        gram, curvature, alive = problem(0)
        sequence = lookup("criterion", name)(gram, curvature, alive, 6)
        assert sequence.order.dtype == torch.int64
        assert sequence.order.sort(1).values.tolist() == [list(range(6))] * 3
        assert (sequence.cost >= 0).all()
        assert sequence.cost.isfinite().all()

    def test_inputs_are_not_changed(self, name):
        inputs = problem(1)
        copies = [tensor.clone() for tensor in inputs]
        lookup("criterion", name)(*inputs, 3)
        assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))

    def test_padded_layers_are_ordered_as_if_alone_and_run_out_at_infinite_cost(self, name):
        criterion = lookup("criterion", name)
        gram, curvature, alive = problem(2)
        ranks = [6, 3, 0]
        for layer, rank in enumerate(ranks):
            alive[layer, rank:] = False
            gram[layer] *= alive[layer, :, None] & alive[layer, None, :]
            curvature[layer] *= alive[layer, :, None] & alive[layer, None, :]
        curvature, _ = damp(curvature, alive, 0.01)
        sequence = criterion(gram, curvature, alive, 5)
        for layer, rank in enumerate(ranks):
            k = min(rank, 5)
            small = slice(layer, layer + 1), slice(rank), slice(rank)
            alone = criterion(gram[small], curvature[small], alive[layer : layer + 1, :rank], k) if k else None
            if alone is not None:
                assert sequence.order[layer, :k].tolist() == alone.order[0].tolist()
                torch.testing.assert_close(sequence.cost[layer, :k], alone.cost[0], rtol=1e-10, atol=1e-12)
            assert torch.isinf(sequence.cost[layer, k:]).all()

    def test_no_removals(self, name):
        sequence = lookup("criterion", name)(*problem(3), 0)
        assert sequence.order.shape == sequence.cost.shape == (3, 0)
