import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from prunedlora.pruning.criteria import Criterion, Elimination, Evidence, optimal_brain_surgeon
from prunedlora.pruning.gram import gram_of_matrix, gram_of_weights
from prunedlora.pruning.recovery import damp, inverse_of
from prunedlora.registry import lookup, names
from tests.pruning.oracles import removal_cost


@dataclass
class Problem:
    """Evidence by its matrices: WᵀW and H by side."""

    alive: Tensor
    gram: Mapping[str, Tensor]
    curvature: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]
    seed: int

    def evidence(self) -> Evidence:
        gram = {side: gram_of_matrix(C) for side, C in self.gram.items()}
        inverse = {side: inverse_of(H) for side, H in self.curvature.items()}
        return Evidence(self.alive, gram, inverse, self.statistics, self.seed)


def problem(seed: int, layers: int = 3, rank: int = 6) -> Problem:
    """Random weights, curvatures and statistics; all components alive."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    weight, other = draw(layers, 5, rank), draw(layers, 7, rank)
    roots = draw(layers, rank, rank), draw(layers, rank, rank)
    eye = 0.1 * torch.eye(rank, dtype=torch.float64)
    B, A = (root @ root.mT + eye for root in roots)
    statistics = {"activation": B, "sensitivity": draw(layers, rank).abs()}
    alive = torch.ones(layers, rank, dtype=torch.bool)
    return Problem(alive, {"A": other.mT @ other, "B": weight.mT @ weight}, {"A": A, "B": B}, statistics, seed=3)


def one_sided(evidence: Problem, side: str = "B") -> Problem:
    return Problem(evidence.alive, evidence.gram, {side: evidence.curvature[side]}, evidence.statistics, evidence.seed)


def of_layer(evidence: Problem, layer: int, rank: int) -> Problem:
    """A layer by itself, cut to its rank."""

    def cut(tensor: Tensor) -> Tensor:
        part = tensor[layer : layer + 1, :rank]
        return part[..., :rank] if tensor.ndim == 3 else part

    parts = [
        {name: cut(tensor) for name, tensor in group.items()}
        for group in (evidence.gram, evidence.curvature, evidence.statistics)
    ]
    return Problem(cut(evidence.alive), *parts, evidence.seed)


def mask(order: Tensor, rank: int) -> Tensor:
    return torch.zeros(len(order), rank, dtype=torch.bool).scatter(1, order, True)


def joint_cost(evidence: Problem, pruned: Tensor) -> Tensor:
    return sum(removal_cost(evidence.gram[side], H, pruned) for side, H in evidence.curvature.items())


@pytest.mark.parametrize("sides", ["A", "B", "both"])
@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_downdate_costs_what_the_joint_form_costs(seed, sides):
    evidence = problem(seed) if sides == "both" else one_sided(problem(seed), sides)
    sequence = optimal_brain_surgeon(evidence.evidence(), 6)
    for k in range(1, 7):
        joint = joint_cost(evidence, mask(sequence.order[:, :k], 6))
        torch.testing.assert_close(sequence.cost[:, :k].sum(1), joint, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sides", ["B", "both"])
@pytest.mark.parametrize("seed", range(5))
def test_each_choice_is_the_cheapest_next_one_by_brute_force(seed, sides):
    evidence = problem(seed) if sides == "both" else one_sided(problem(seed), sides)
    sequence = optimal_brain_surgeon(evidence.evidence(), 4)
    for layer, k in itertools.product(range(3), range(4)):
        chosen = sequence.order[layer, :k].tolist()
        costs = {}
        for j in set(range(6)) - set(chosen):
            candidate = torch.zeros(1, 6, dtype=torch.bool)
            candidate[0, [*chosen, j]] = True
            costs[j] = joint_cost(of_layer(evidence, layer, 6), candidate).item()
        assert sequence.order[layer, k].item() == min(costs, key=costs.__getitem__)


def test_the_first_score_is_that_of_optimal_brain_surgeon():
    evidence = one_sided(problem(0))
    inverse = torch.linalg.inv(evidence.curvature["B"])
    scores = 0.5 * evidence.gram["B"].diagonal(dim1=1, dim2=2) / inverse.diagonal(dim1=1, dim2=2)
    sequence = optimal_brain_surgeon(evidence.evidence(), 1)
    torch.testing.assert_close(sequence.cost[:, 0], scores.min(1).values, rtol=1e-10, atol=0)


def single(gram: Tensor, curvature: Tensor) -> Problem:
    alive = torch.ones(1, len(gram), dtype=torch.bool)
    return Problem(alive, {"B": gram[None], "A": gram[None]}, {"B": curvature[None]}, {}, 0)


def test_correlated_components_stand_in_for_each_other_once_only():
    """Components 0 and 1 nearly always fire together: each alone is cheap, both are not. Single scores take both."""
    W = torch.diag(torch.tensor([1.0, 1.0, 0.8], dtype=torch.float64))
    H = torch.tensor([[1.0, 0.95, 0.0], [0.95, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    scores = 0.5 * (W.T @ W).diagonal() / torch.linalg.inv(H).diagonal()
    assert scores.argsort()[:2].tolist() == [0, 1]
    assert optimal_brain_surgeon(single(W.T @ W, H).evidence(), 2).order.tolist() == [[0, 2]]


def test_products_with_the_factors_do_what_their_gram_matrix_does():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(n, r, generator=generator) for n, r in ((40, 32), (50, 20))]
    few, many = gram_of_weights(weights, 32, 2), gram_of_weights(weights, 32, 3)
    x = torch.randn(2, 32, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(few.diagonal, many.diagonal, rtol=1e-12, atol=0)
    torch.testing.assert_close(few.times(x), many.times(x), rtol=1e-12, atol=1e-12)
    W = weights[1].double()
    torch.testing.assert_close(few.times(x)[1, :20], W.T @ W @ x[1, :20], rtol=1e-12, atol=1e-12)
    assert not few.times(x)[1, 20:].any()


def test_ties_go_to_the_lowest_index():
    eye = torch.eye(4, dtype=torch.float64)
    for name in ("gradient", "magnitude"):
        assert lookup("criterion", name).eliminate(single(eye, eye).evidence(), 4).order.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("magnitude", lambda A, B, h, s: A.norm(dim=1) * B.norm(dim=0)),
        ("activation", lambda A, B, h, s: h.square().mean(0).sqrt() * B.norm(dim=0)),
        ("taylor", lambda A, B, h, s: s),
    ],
)
def test_scores_are_those_of_their_definition(name, scores):
    generator = torch.Generator().manual_seed(0)
    A, B, h, s = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((4, 9), (7, 4), (50, 4), (4,)))
    s = s.abs()
    evidence = Problem(
        torch.ones(1, 4, dtype=torch.bool),
        {"A": (A @ A.T)[None], "B": (B.T @ B)[None]},
        {},
        {"activation": (h.T @ h / 50)[None], "sensitivity": s[None]},
        0,
    )
    expected = scores(A, B, h, s)
    sequence = lookup("criterion", name).eliminate(evidence.evidence(), 4)
    assert sequence.order[0].tolist() == expected.argsort().tolist()
    torch.testing.assert_close(sequence.cost[0], expected.sort().values, rtol=1e-10, atol=0)


def test_chance_is_seeded():
    orders = []
    for seed in (1, 1, 2):
        evidence = problem(0, layers=4, rank=30)
        evidence = Problem(evidence.alive, evidence.gram, {}, {}, seed)
        orders.append(lookup("criterion", "random").eliminate(evidence.evidence(), 30).order)
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0][0], orders[0][1])


@pytest.mark.parametrize("name", names("criterion"))
class TestConformance:
    """What every registered criterion promises."""

    def eliminate(self, name: str, evidence: Problem, num: int) -> Elimination:
        criterion: Criterion = lookup("criterion", name)
        return criterion.eliminate(one_sided(evidence).evidence(), num)

    def test_what_it_needs_can_be_collected(self, name):
        criterion = lookup("criterion", name)
        assert isinstance(criterion, Criterion)
        for statistic in (*criterion.statistics, *filter(None, [criterion.own_curvature])):
            assert statistic in names("statistic")

    def test_orders_are_components_without_repetition_and_costs_are_not_negative(self, name):
        sequence = self.eliminate(name, problem(0), 6)
        assert sequence.order.dtype == torch.int64
        assert sequence.order.sort(1).values.tolist() == [list(range(6))] * 3
        assert (sequence.cost >= 0).all()
        assert sequence.cost.isfinite().all()

    def test_inputs_are_not_changed(self, name):
        evidence, copy = problem(1), problem(1).evidence()
        known = evidence.evidence()
        lookup("criterion", name).eliminate(known, 3)
        for group in ("inverse", "statistics"):
            ours, theirs = getattr(known, group), getattr(copy, group)
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert all(torch.equal(evidence.gram[side], problem(1).gram[side]) for side in evidence.gram)
        assert bool(known.alive.all())

    def test_padded_layers_are_ordered_as_if_alone_and_run_out_at_infinite_cost(self, name):
        evidence = problem(2)
        ranks = [6, 3, 0]
        alive = evidence.alive
        for layer, rank in enumerate(ranks):
            alive[layer, rank:] = False
        both = alive[:, :, None] & alive[:, None, :]
        gram = {side: C * both for side, C in evidence.gram.items()}
        curvature = {side: damp(H * both, alive, 0.01)[0] for side, H in evidence.curvature.items()}
        statistics = {
            key: tensor * (both if tensor.ndim == 3 else alive) for key, tensor in evidence.statistics.items()
        }
        evidence = Problem(alive, gram, curvature, statistics, 3)
        sequence = self.eliminate(name, evidence, 5)
        for layer, rank in enumerate(ranks):
            k = min(rank, 5)
            if k and name != "random":  # whose draws go on from layer to layer
                alone = self.eliminate(name, of_layer(evidence, layer, rank), k)
                assert sequence.order[layer, :k].tolist() == alone.order[0].tolist()
                torch.testing.assert_close(sequence.cost[layer, :k], alone.cost[0], rtol=1e-10, atol=1e-12)
            assert sorted(sequence.order[layer, :k].tolist()) == sorted(set(sequence.order[layer, :k].tolist()))
            assert torch.isinf(sequence.cost[layer, k:]).all()

    def test_no_removals(self, name):
        sequence = self.eliminate(name, problem(3), 0)
        assert sequence.order.shape == sequence.cost.shape == (3, 0)
