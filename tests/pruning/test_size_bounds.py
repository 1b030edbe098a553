"""Whatever the scores are, what an event leaves lies within the bounds that were known before; some of it is as large
and as small as they say."""

import itertools
import random

import pytest
import torch

from prunedlora.pruning.allocation import Demand
from prunedlora.pruning.size_bounds import SizeBounds, left_of
from prunedlora.pruning.target import Start
from prunedlora.registry import lookup


def brute(layers: list[tuple[int, int]], least: int, most: int, total: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Parameters and largest rank of all adapters of such ranks."""
    found = [
        ranks
        for ranks in itertools.product(range(least, most + 1), repeat=len(layers))
        if total[0] <= sum(ranks) <= total[1]
    ]
    params = [sum(rank * width for rank, (_, width) in zip(ranks, layers, strict=True)) for ranks in found]
    return params, [max(ranks) for ranks in found]


@pytest.mark.parametrize("total", [(3, 3), (7, 7), (4, 6), (12, 12)])
@pytest.mark.parametrize("widths", [(8, 8, 8), (8, 12, 20)])
def test_bounds_on_components_that_moved_are_those_of_all_there_can_be(
    widths: tuple[int, ...], total: tuple[int, int]
) -> None:
    layers = [(4, width) for width in widths]
    params, ranks = brute(layers, 1, 4, total)
    bounds = SizeBounds.of_any_ranks(Start.of([4] * len(widths), widths), 1, 4, total)
    assert bounds.num_parameters == (min(params), max(params))
    assert bounds.max_rank == (min(ranks), max(ranks))


@pytest.mark.parametrize("allocation", ["global", "global_per_parameter"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("most_rank", [None, 4])
def test_what_competing_layers_keep_lies_within_the_bounds(allocation: str, block: int, most_rank: int | None) -> None:
    rng, rule = random.Random(0), lookup("allocation", allocation)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        widths = [rng.choice([8, 12, 20]) for _ in range(rng.randint(1, 5))]
        ranks = [rng.choice([0, 2, 4, 6]) for _ in widths]
        floor, unit = rng.choice([0, block]), rule.unit
        start = Start.of(ranks, widths)
        spare = start.size(unit) - start.size(unit, floor)
        steps = sorted(rng.randint(0, spare) for _ in range(2))
        bounds, left = SizeBounds.of(start), list(ranks)
        for number, num in enumerate(steps):
            completes = number == len(steps) - 1
            due = num - rule.num_removed(start, left, widths, rule_goal(num, unit))
            cost = torch.rand(len(left), 6, generator=generator, dtype=torch.float64)
            demand = Demand(max(due, 0), floor, block, most_rank, unit, completes)
            lost = rule.counts(cost, torch.tensor(left), torch.tensor(widths), demand).tolist()
            left = [rank - gone for rank, gone in zip(left, lost, strict=True)]
            if spare:
                bounds = bounds.removed_to(unit, left_of(start, unit, num, block), floor)
            if completes and most_rank is not None:
                bounds = bounds.capped(most_rank)
            sizes = sum(left), sum(rank * width for rank, width in zip(left, widths, strict=True))
            for each, (low, high) in zip(
                sizes, (bounds.totals["components"], bounds.totals["parameters"]), strict=True
            ):
                assert low <= each <= high, (ranks, widths, floor, steps, left, bounds)
            assert bounds.max_rank[0] <= max(left) <= bounds.max_rank[1]


def rule_goal(num: int, unit: str) -> object:
    from prunedlora.pruning.target import Goal

    return Goal(num, unit)  # type: ignore[arg-type]


def test_one_width_makes_a_budget_of_parameters_exact() -> None:
    start = Start.of([6, 6, 4], [20, 20, 20])
    assert left_of(start, "parameters", 41, 1) == (260, 260)
    bounds = SizeBounds.of(start).removed_to("parameters", (260, 260), 0)
    assert bounds.num_parameters == (260, 260)
    assert bounds.max_rank == (5, 6)
