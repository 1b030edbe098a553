"""Cuts of constructed adapters: the best approximation, budgets, and what a metric of the loss is good for."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from prunedlora.pruning.cut import Decomposed, decompose, ranks_left
from prunedlora.pruning.target import Start, Target
from prunedlora.registry import names

SHAPES = ((9, 7), (9, 7), (5, 20), (30, 4))
"""(d_in, d_out): components of 16, 16, 25 and 34 parameters."""
RANK = 5


def drawn(seed: int = 0, rank: int = RANK, shapes: tuple[tuple[int, int], ...] = SHAPES) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((rank, d_in), (d_out, rank)))
        for d_in, d_out in shapes
    ]


def by_svd(factors: list[tuple[Tensor, Tensor]]) -> Decomposed:
    return decompose(factors, [1.0] * len(factors), None, None)


@pytest.mark.parametrize("rank", [0, 1, 2, 5])
def test_a_cut_by_svd_is_the_best_approximation_of_its_rank(rank: int) -> None:
    """Oracle: the singular value decomposition of the whole product (Eckart-Young)."""
    factors = drawn(rank)
    smaller = by_svd(factors).cut([min(rank, min(shape)) for shape in SHAPES])
    for (A, B), (small_A, small_B), (d_in, d_out) in zip(factors, smaller, SHAPES, strict=True):
        kept = min(rank, d_in, d_out)
        assert small_A.shape == (kept, d_in)
        assert small_B.shape == (d_out, kept)
        U, S, Vh = torch.linalg.svd(B @ A)
        torch.testing.assert_close(small_B @ small_A, U[:, :kept] * S[:kept] @ Vh[:kept], rtol=1e-10, atol=1e-10)


def test_costs_are_half_the_squares_of_the_scaled_singular_values_smallest_first() -> None:
    factors, scalings = drawn(), [0.5, 1.0, 2.0, 3.0]
    found = decompose(factors, scalings, None, None)
    for (A, B), scaling, cost in zip(factors, scalings, found.costs, strict=True):
        sigma = torch.zeros(RANK, dtype=torch.float64)  # a product of rank 4 has a fifth component that is nothing
        values = torch.linalg.svdvals(scaling * B @ A)[:RANK]
        sigma[RANK - len(values) :] = values.flip(0)
        torch.testing.assert_close(cost[:RANK], 0.5 * sigma**2, rtol=1e-9, atol=1e-9)
    assert found.ranks == [RANK] * 4
    assert found.widths == [16, 16, 25, 34]


def test_the_product_stays_whatever_the_metric_is_and_factors_keep_their_type() -> None:
    factors = [(A.float(), B.float()) for A, B in drawn()]
    moments = [
        [M @ M.mT for M in torch.randn(4, RANK, RANK, generator=torch.Generator().manual_seed(i))] for i in (1, 2)
    ]
    for found in (decompose(factors, [1.0] * 4, (moments[0], moments[1]), 0.01), by_svd(factors)):
        for (A, B), (turned_A, turned_B) in zip(factors, found.factors, strict=True):
            assert turned_A.dtype == turned_B.dtype == torch.float32
            torch.testing.assert_close(turned_B @ turned_A, B @ A, rtol=1e-4, atol=1e-4)


def test_the_metric_of_the_loss_keeps_what_the_data_see() -> None:
    """A layer whose larger component reads an input that is almost zero in all data: by the norm it stays, by the loss
    it goes. Oracle: the loss itself, of a squared error whose minimum is at the whole adapter."""
    generator = torch.Generator().manual_seed(0)
    A = torch.eye(2, 6, dtype=torch.float64)
    B = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    x = torch.randn(400, 6, dtype=torch.float64, generator=generator) * torch.tensor([0.01, 1, 1, 1, 1, 1])
    delta = torch.randn(400, 3, dtype=torch.float64, generator=generator)
    h, u = x @ A.mT, delta @ B
    moments = ([h.mT @ h / len(h)], [u.mT @ u])
    losses = {}
    for name, seen in (("svd", None), ("whitened", moments)):
        ((small_A, small_B),) = decompose([(A, B)], [1.0], seen, 0.01 if seen else None).cut([1])
        losses[name] = float((x @ (small_B @ small_A - B @ A).mT).square().mean())
    assert losses["whitened"] < 1e-2 * losses["svd"]


def test_a_layer_that_nothing_is_known_of_keeps_its_components_which_cost_nothing() -> None:
    factors = drawn()
    factors[1] = (factors[1][0], torch.zeros_like(factors[1][1]))
    found = by_svd(factors)
    directions = [torch.nn.functional.normalize(A) for A in (found.factors[1][0], factors[1][0])]
    torch.testing.assert_close(*directions)
    assert found.costs[1].tolist() == [0.0] * RANK
    assert (found.costs[0] > 0).all()


def test_layers_of_different_ranks_and_of_none_are_cut_together() -> None:
    factors = [drawn(seed, rank)[seed] for seed, rank in ((0, 3), (1, 0), (2, 5))]
    found = by_svd(factors)
    assert found.ranks == [3, 0, 5]
    assert [A.shape[0] for A, _ in found.cut([2, 0, 5])] == [2, 0, 5]
    assert found.costs[0, 3:].isinf().all()
    assert found.costs[1].isinf().all()


# --- budgets: as for a ladder's rungs

SIZES = {"parameters": (300.0, 100.0, 34.0), "mean_rank": (3.0, 1.0), "kept": (0.7, 0.21)}


def num_params(found: Decomposed, ranks: list[int]) -> int:
    return sum(rank * width for rank, width in zip(ranks, found.widths, strict=True))


def start_of(found: Decomposed) -> Start:
    return Start.of(found.ranks, found.widths)


@pytest.mark.parametrize("allocation", names("allocation"))
@pytest.mark.parametrize("unit", ["parameters", "mean_rank", "kept"])
def test_a_cut_is_never_above_its_budget_and_below_by_less_than_the_last_component(unit: str, allocation: str) -> None:
    """Uniform: less than one component of every layer."""
    found = by_svd(drawn())
    for size in SIZES[unit]:
        if (allocation, unit, size) == ("uniform", "parameters", 34.0):  # not one component for every layer
            continue
        ranks = ranks_left(found, Target(unit, size, 0), allocation, start_of(found))
        in_components = unit != "parameters" and allocation != "global_per_parameter"
        used = sum(ranks) if in_components else num_params(found, ranks)
        of_rank_1 = len(SHAPES) if in_components else sum(found.widths)
        budget = {"parameters": size, "mean_rank": size * of_rank_1, "kept": size * RANK * of_rank_1}[unit]
        last = of_rank_1 if allocation == "uniform" else 1 if in_components else max(found.widths)
        assert budget - last < used <= budget
        if allocation == "uniform":
            assert len(set(ranks)) == 1


def test_shares_are_of_the_start_and_a_cut_that_takes_nothing_leaves_everything() -> None:
    found, start = by_svd(drawn(rank=3)), Start.of([6] * 4, [16, 16, 25, 34])
    assert ranks_left(found, Target("kept", 0.5, 0), "global", start) == [3, 3, 3, 3]
    assert ranks_left(found, Target("mean_rank", 5, 0), "uniform", start) == [3, 3, 3, 3]
    assert sum(ranks_left(found, Target("kept", 0.4, 0), "global", start)) == 9  # of 24


def test_uniform_is_a_cap_on_layers_of_different_ranks() -> None:
    found = by_svd([drawn(seed, rank)[seed] for seed, rank in ((0, 3), (1, 1), (2, 5))])
    assert ranks_left(found, Target("mean_rank", 2, 0), "uniform", start_of(found)) == [2, 1, 2]


def test_shared_over_layers_the_cheapest_go_and_no_layer_falls_below_min_rank() -> None:
    """Oracle: all choices of that many components; the sum of what goes is least."""
    found = by_svd(drawn())
    for min_rank in (0, 1):
        ranks = ranks_left(found, Target("mean_rank", 1.5, min_rank), "global", start_of(found))
        costs = [found.costs[layer, : RANK - rank].sum().item() for layer, rank in enumerate(ranks)]
        choices = [c for c in product(range(min_rank, RANK + 1), repeat=4) if sum(c) == 6]
        best = min(
            math.fsum(found.costs[layer, : RANK - rank].sum().item() for layer, rank in enumerate(c)) for c in choices
        )
        assert sum(ranks) == 6
        assert min(ranks) >= min_rank
        assert math.fsum(costs) == pytest.approx(best, rel=1e-12)


def test_a_size_that_cannot_be_is_refused() -> None:
    found = by_svd(drawn())
    with pytest.raises(
        ValueError, match=r"^parameters 90 is below what min_rank 1 keeps; take at least parameters 91$"
    ):
        ranks_left(found, Target("parameters", 90, 1), "global", start_of(found))
    with pytest.raises(ValueError, match=r"^mean_rank 5 removes nothing: the adapter has .*; take less$"):
        ranks_left(found, Target("mean_rank", 5, 0), "uniform", start_of(found))
