import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunedlora.pruning.reallocation import reallocate, shrink_gates

gate_lists = st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6), min_size=1, max_size=6)


@given(gate_lists, st.floats(0.0625, 0.9375, width=32))
def test_the_budget_is_kept_and_no_layer_is_emptied(gates, threshold):
    moves = reallocate([torch.tensor(values) for values in gates], threshold)
    assert sum(map(len, moves.removed)) == sum(moves.num_added)
    for values, removed in zip(gates, moves.removed, strict=True):
        assert len(removed) < len(values)
        assert removed == sorted(set(removed))
        kept = [torch.tensor(value) for j, value in enumerate(values) if j not in removed]
        assert all(torch.tensor(values)[j] < threshold for j in removed)
        assert torch.tensor(values).max() in kept


def test_free_components_go_round_to_the_layers_whose_smallest_gate_is_largest():
    gates = [torch.tensor(v) for v in ([0.0, 0.0, 0.0, 0.9], [0.5, 0.6], [0.8, 0.7], [1.0, 0.2])]
    moves = reallocate(gates, 0.1)
    assert moves.removed == [[0, 1, 2], [], [], []]
    assert moves.num_added == [0, 1, 1, 1]
    assert reallocate([*gates, torch.tensor([0.05, 1.0])], 0.1).num_added == [0, 1, 2, 1, 0]


def test_when_every_layer_lost_some_all_take_part():
    moves = reallocate([torch.tensor([0.0, 0.4]), torch.tensor([0.0, 0.6])], 0.1)
    assert moves.removed == [[0], [0]]
    assert moves.num_added == [1, 1]
    assert reallocate([torch.tensor([0.0, 0.0, 0.4]), torch.tensor([0.0, 0.6])], 0.1).num_added == [1, 2]


def test_a_layer_below_the_threshold_keeps_its_largest():
    assert reallocate([torch.tensor([0.01, 0.02, 0.02]), torch.tensor([1.0])], 0.1).removed == [[0, 2], []]


def test_a_budget_below_one_per_layer_is_refused():
    with pytest.raises(ValueError, match="the budget is below one component per layer: layer 1 has none"):
        reallocate([torch.ones(2), torch.ones(0)], 0.1)


def test_the_proximal_step_minimises_the_penalised_distance():
    """Oracle: argmin over c in [0, 1] of ½ (c − v)² + penalty · c, on a grid."""
    grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    for value in (-0.3, 0.0, 0.05, 0.2, 0.7, 1.0, 1.4):
        objective = 0.5 * (grid - value) ** 2 + 0.1 * grid
        expected = grid[objective.argmin()]
        found = shrink_gates(torch.tensor([value], dtype=torch.float64), 0.1)
        torch.testing.assert_close(found, expected[None], rtol=0, atol=1e-5)
