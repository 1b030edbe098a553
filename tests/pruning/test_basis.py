"""Change of basis: the product stays, and the smallest components are the best to drop (oracle: Eckart-Young)."""

import itertools

import pytest
import torch
from torch import Tensor

from prunedlora.pruning.basis import keep_row_size, map_second_moment, principal_basis, square_root

RANK, D_IN, D_OUT, TOKENS = 5, 9, 7, 40


def problem(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A (r, d_in), B (d_out, r), inputs x (tokens, d_in), output gradients δ (tokens, d_out); scaling 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return draw(RANK, D_IN), draw(D_OUT, RANK), draw(TOKENS, D_IN) @ draw(D_IN, D_IN), draw(TOKENS, D_OUT)


def moments(A: Tensor, B: Tensor, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    h, u = x @ A.T, delta @ B
    return h.T @ h / len(x), u.T @ u


def whitened(A: Tensor, B: Tensor, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    G_h, G_u = moments(A, B, x, delta)
    return principal_basis(square_root(G_h), square_root(G_u))


@pytest.mark.parametrize("seed", range(3))
def test_the_product_stays_and_rows_keep_their_usual_size(seed):
    A, B, x, delta = problem(seed)
    T, T_inverse, sigma = whitened(A, B, x, delta)
    T, T_inverse = keep_row_size(T, T_inverse, A @ A.T)
    torch.testing.assert_close(T @ T_inverse, torch.eye(RANK, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(B @ T_inverse @ T @ A, B @ A, rtol=0, atol=1e-10)
    usual = A.norm(dim=1).square().mean().sqrt()
    torch.testing.assert_close((T @ A).norm(dim=1), usual.expand(RANK), rtol=1e-10, atol=0)
    assert sigma.diff().max() <= 0


@pytest.mark.parametrize("seed", range(3))
def test_new_components_are_uncorrelated_and_cost_half_their_sigma_squared(seed):
    """Removing a set changes the loss's Kronecker model, N/2 · tr(G_u' Δ G_h' Δᵀ) / N, by the sum of ½ σ²."""
    A, B, x, delta = problem(seed)
    T, T_inverse, sigma = whitened(A, B, x, delta)
    new_A, new_B = T @ A, B @ T_inverse
    G_h, G_u = moments(new_A, new_B, x, delta)
    for size in (1, 2, 3):
        for pruned in itertools.combinations(range(RANK), size):
            P = torch.diag(torch.tensor([float(j in pruned) for j in range(RANK)], dtype=torch.float64))
            cost = 0.5 * (P @ G_u @ P @ G_h).trace()
            torch.testing.assert_close(cost, 0.5 * sigma[list(pruned)].square().sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_dropping_the_smallest_is_the_best_approximation_of_its_rank_in_the_metric_of_the_loss(kept):
    """The metric of a change D of the product is ‖S_δ D S_x‖ with the roots of E[δδᵀ] and E[xxᵀ]; over changes within
    the factors' spans its least value, by singular values of the weighted product, is what is dropped."""
    A, B, x, delta = problem(0)
    root_x, root_delta = square_root(x.T @ x / len(x)), square_root(delta.T @ delta)
    T, T_inverse, sigma = whitened(A, B, x, delta)
    approximation = (B @ T_inverse)[:, :kept] @ (T @ A)[:kept]
    error = (root_delta.T @ (B @ A - approximation) @ root_x).norm().square()
    best = torch.linalg.svdvals(root_delta.T @ B @ A @ root_x)[kept:].square().sum()
    torch.testing.assert_close(error, best, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(best, sigma[kept:].square().sum(), rtol=1e-8, atol=1e-8)


def test_second_moments_follow_the_components():
    A, B, x, delta = problem(1)
    T, T_inverse, _ = whitened(A, B, x, delta)
    G_h, G_u = moments(A, B, x, delta)
    new_h, new_u = moments(T @ A, B @ T_inverse, x, delta)
    torch.testing.assert_close(map_second_moment(G_h, T), new_h, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(map_second_moment(G_u, T_inverse.mT), new_u, rtol=1e-10, atol=1e-10)


def test_a_singular_moment_has_an_invertible_root():
    """More components than dimensions: the product stays all the same."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    B = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    root = square_root(A @ A.T)
    torch.testing.assert_close(root @ root.T, A @ A.T, rtol=0, atol=1e-10)
    T, T_inverse, sigma = principal_basis(root, square_root(B.T @ B))
    torch.testing.assert_close((B @ T_inverse) @ (T @ A), B @ A, rtol=0, atol=1e-6)
    torch.testing.assert_close(sigma[:3], torch.linalg.svdvals(B @ A)[:3], rtol=1e-6, atol=1e-6)


def test_signs_are_fixed():
    """A singular vector's sign is free; the same problem up to signs of its parts gives the same components."""
    A, B, x, delta = problem(2)
    flips = torch.diag(torch.tensor([1.0, -1, 1, -1, -1], dtype=torch.float64))
    T, _, _ = whitened(A, B, x, delta)
    other, _, _ = whitened(flips @ A, B @ flips, x, delta)
    torch.testing.assert_close((T @ A).abs(), (other @ flips @ A).abs(), rtol=1e-8, atol=1e-8)
