"""The laws of methods.md 6 on the quadratic model, in float64 to 1e-10."""

import pytest
import torch
from torch import Tensor

from prunedlora.pruning.recovery import (
    capped_gradient_scale,
    damp,
    handover,
    inverse_of,
    kept_inverse,
    recover,
    residual_gram,
    with_strength,
)
from tests.pruning.oracles import closed_form_change, optimal_change, quadratic_model, removal_cost


def problem(seed: int, *, layers: int = 3, rows: int = 5, rank: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random W, G, positive definite H, and pruned sets of different sizes, one of them empty, one full."""
    generator = torch.Generator().manual_seed(seed)
    weight, gradient = (torch.randn(layers, rows, rank, dtype=torch.float64, generator=generator) for _ in range(2))
    root = torch.randn(layers, rank, rank, dtype=torch.float64, generator=generator)
    curvature = root @ root.mT + 0.5 * torch.eye(rank, dtype=torch.float64)
    pruned = torch.rand(layers, rank, generator=generator) < 0.5
    pruned[0], pruned[1] = False, True
    return weight, gradient, curvature, pruned


def brute_force_change(weight: Tensor, gradient: Tensor, curvature: Tensor, pruned: Tensor) -> Tensor:
    """The constrained minimum of one layer from its Lagrange conditions, as one linear system over all of d."""
    rows, rank = weight.shape
    H = torch.kron(torch.eye(rows, dtype=weight.dtype), curvature)
    M = torch.nonzero(pruned.repeat(rows)).flatten()
    E = torch.eye(rows * rank, dtype=weight.dtype)[M]
    system = torch.cat([torch.cat([H, E.T], 1), torch.cat([E, torch.zeros(len(M), len(M), dtype=weight.dtype)], 1)])
    right = torch.cat([-gradient.flatten(), -weight.flatten()[M]])
    return torch.linalg.solve(system, right)[: rows * rank].view(rows, rank)


@pytest.mark.parametrize("seed", range(5))
def test_closed_form_equals_cholesky_form_equals_brute_force(seed):
    weight, gradient, curvature, pruned = problem(seed)
    for G in (gradient, torch.zeros_like(gradient)):
        change = optimal_change(weight, G, curvature, pruned)
        torch.testing.assert_close(closed_form_change(weight, G, curvature, pruned), change, rtol=0, atol=1e-10)
        for layer in range(len(weight)):
            expected = brute_force_change(weight[layer], G[layer], curvature[layer], pruned[layer])
            torch.testing.assert_close(change[layer], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_change_is_a_minimum_by_gradient_descent_too(seed):
    weight, gradient, curvature, pruned = problem(seed)
    best = quadratic_model(optimal_change(weight, gradient, curvature, pruned), gradient, curvature)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        other = torch.randn(weight.shape, dtype=torch.float64, generator=generator)
        other = optimal_change(weight, gradient, curvature, pruned) + 0.1 * other * ~pruned[:, None, :]
        assert (quadratic_model(other, gradient, curvature) >= best - 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_cost_is_the_rise_of_the_model(seed):
    weight, gradient, curvature, pruned = problem(seed)
    cost = removal_cost(weight.mT @ weight, curvature, pruned)
    zero = torch.zeros_like(gradient)
    change = optimal_change(weight, zero, curvature, pruned)
    torch.testing.assert_close(cost, quadratic_model(change, zero, curvature), rtol=1e-10, atol=1e-10)
    # With a gradient: R = W − G H⁻¹, and the constant is the unconstrained minimum.
    residual = weight - gradient @ torch.linalg.inv(curvature)
    cost = removal_cost(residual.mT @ residual, curvature, pruned)
    nothing = torch.zeros_like(pruned)
    free = quadratic_model(optimal_change(weight, gradient, curvature, nothing), gradient, curvature)
    change = optimal_change(weight, gradient, curvature, pruned)
    torch.testing.assert_close(cost + free, quadratic_model(change, gradient, curvature), rtol=1e-10, atol=1e-10)


def picked(pruned: Tensor) -> tuple[Tensor, Tensor]:
    """A mask as an event has it: indices, the pruned ones first, and which of them are chosen."""
    order = (~pruned).long().argsort(dim=-1, stable=True)
    return order, pruned.gather(-1, order)


def recovered_by(weight: Tensor, curvature: Tensor, pruned: Tensor, strength: float) -> Tensor:
    order, chosen = picked(pruned)
    T = handover(inverse_of(curvature), order, chosen)
    return recover_all(weight, order, with_strength(T, order, chosen, strength))


def recover_all(weight: Tensor, order: Tensor, handed_over: Tensor) -> Tensor:
    return torch.stack([recover(*layer) for layer in zip(weight, order, handed_over, strict=True)])


@pytest.mark.parametrize("seed", range(5))
def test_recovery_by_handing_over_is_the_optimal_change(seed):
    weight, gradient, curvature, pruned = problem(seed)
    change = optimal_change(weight, torch.zeros_like(gradient), curvature, pruned)
    recovered = recovered_by(weight, curvature, pruned, 1.0)
    torch.testing.assert_close(recovered, weight + change, rtol=0, atol=1e-10)


def test_strength_0_is_plain_removal_bit_for_bit_and_strengths_interpolate():
    weight, _, curvature, pruned = problem(0)
    plain, half, full = (recovered_by(weight, curvature, pruned, strength) for strength in (0.0, 0.5, 1.0))
    assert torch.equal(plain, weight * ~pruned[:, None, :])
    torch.testing.assert_close(half, (plain + full) / 2, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(10))
def test_full_recovery_never_costs_more_than_none(seed):
    weight, gradient, curvature, pruned = problem(seed)
    zero = torch.zeros_like(gradient)
    none, half, full = (
        quadratic_model(recovered_by(weight, curvature, pruned, s) - weight, zero, curvature) for s in (0.0, 0.5, 1.0)
    )
    assert (full <= half + 1e-12).all()
    assert (half <= none + 1e-12).all()


def test_order_and_recovery_do_not_depend_on_the_scale_of_the_loss():
    _, _, curvature, pruned = problem(1)
    alive = torch.ones_like(pruned)
    for scale in (1e-8, 1e8):
        damped, _ = damp(curvature, alive, 0.01)
        scaled, _ = damp(scale * curvature, alive, 0.01)
        torch.testing.assert_close(scaled, scale * damped, rtol=1e-12, atol=0)
        ours, theirs = (handover(inverse_of(H), *picked(pruned)) for H in (scaled, damped))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_damping_is_relative_to_the_mean_of_the_diagonal():
    H = torch.diag_embed(torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64))
    damped, live = damp(H, torch.ones(1, 3, dtype=torch.bool), 0.1)
    torch.testing.assert_close(damped, H + 0.3 * torch.eye(3, dtype=torch.float64))
    assert live.tolist() == [True]


def test_padding_changes_nothing_for_the_components_that_exist():
    _, _, curvature, pruned = problem(2)
    padded = torch.zeros(3, 8, 8, dtype=torch.float64)
    padded[:, :6, :6] = curvature
    alive = torch.arange(8) < torch.tensor([6, 6, 6])[:, None]
    H, _ = damp(padded, alive, 0.01)
    expected, _ = damp(curvature, alive[:, :6], 0.01)
    torch.testing.assert_close(H[:, :6, :6], expected, rtol=0, atol=1e-12)
    order, chosen = picked(pruned)
    T = handover(inverse_of(H), order, chosen)
    torch.testing.assert_close(T[..., :6], handover(inverse_of(expected), order, chosen), rtol=0, atol=1e-10)
    assert not T[..., 6:].any()


def test_indices_that_are_not_chosen_mean_nothing():
    weight, _, curvature, pruned = problem(4)
    order, chosen = picked(pruned)
    T = handover(inverse_of(curvature), order, chosen)
    other = torch.where(chosen, order, order[:, :1])  # as for a layer that has run out: the same index again and again
    again = handover(inverse_of(curvature), other, chosen)
    assert torch.equal(again, T)
    half, same = (with_strength(T, indices, chosen, 0.5) for indices in (order, other))
    torch.testing.assert_close(recover_all(weight, other, same), recover_all(weight, order, half), rtol=0, atol=1e-12)


def test_a_layer_without_curvature_gets_no_recovery():
    weight, _, curvature, pruned = problem(3)
    curvature[2] = 0
    H, live = damp(curvature, torch.ones_like(pruned), 0.01)
    assert live.tolist() == [True, True, False]
    assert torch.equal(H[2], torch.eye(6, dtype=torch.float64))
    recovered = recovered_by(weight, H, pruned, 1.0)
    assert torch.equal(recovered[2], (weight * ~pruned[:, None, :])[2])


def test_curvature_that_is_no_number_is_not_taken_for_none():
    H, live = damp(torch.full((1, 2, 2), torch.nan), torch.ones(1, 2, dtype=torch.bool), 0.01)
    assert live.tolist() == [True]
    with pytest.raises(torch.linalg.LinAlgError):
        inverse_of(H)


def gradient_problem(seed: int):
    generator = torch.Generator().manual_seed(seed)
    W, G = (torch.randn(7, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    root = torch.randn(5, 5, dtype=torch.float64, generator=generator)
    return W, G, root @ root.T + 0.1 * torch.eye(5, dtype=torch.float64)


@pytest.mark.parametrize("cap", [1e-3, 0.1, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_the_gradients_step_is_bounded_by_its_cap(seed, cap):
    W, G, H = gradient_problem(seed)
    P = torch.linalg.inv(H)
    scale = capped_gradient_scale(G.T @ G, P, W.norm(), cap)
    step, bound = (G @ P).norm(), cap * W.norm()
    torch.testing.assert_close(scale * step, min(step, bound), rtol=1e-10, atol=0)
    assert capped_gradient_scale(torch.zeros(5, 5).double(), P, W.norm(), cap).item() == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_residual_and_kept_inverse_give_the_closed_form(seed):
    W, G, H = gradient_problem(seed)
    R = W - G @ torch.linalg.inv(H)
    P = inverse_of(H)
    gram = residual_gram(W.T @ W, W.T @ G, G.T @ G, P)
    torch.testing.assert_close(gram, R.T @ R, rtol=1e-10, atol=1e-10)
    pruned = torch.tensor([False, True, False, True, False])
    order, chosen = picked(pruned)
    T = handover(P, order, chosen)
    kept = recover(W, order, with_strength(T, order, chosen, 1.0)) - G @ kept_inverse(P, order, chosen, T)
    expected = W + closed_form_change(W, G, H, pruned)
    torch.testing.assert_close(kept, expected, rtol=1e-10, atol=1e-10)
    assert not kept_inverse(P, order, chosen, T)[pruned].any()
