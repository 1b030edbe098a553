import pytest
import torch

from prunedlora.adapters.layers import adapted_layers
from prunedlora.methods.svd import truncate


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_truncation_is_the_best_approximation_of_its_rank(rank):
    """Oracle: the singular value decomposition of the whole product (Eckart-Young)."""
    generator = torch.Generator().manual_seed(rank)
    A, B = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((5, 9), (7, 5)))
    small_A, small_B = truncate(A, B, rank)
    assert small_A.shape == (rank, 9)
    assert small_B.shape == (7, rank)
    U, S, Vh = torch.linalg.svd(B @ A)
    best = U[:, :rank] * S[:rank] @ Vh[:rank]
    torch.testing.assert_close(small_B @ small_A, best, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(small_A.norm(dim=1), small_B.norm(dim=0), rtol=1e-10, atol=1e-10)


def test_the_ladder_goes_down_and_equals_truncating_at_once(make_base, make_method, make_optimizer, train):
    method = make_method("svd")
    model = method.attach(make_base(), "default")
    assert train(method, model, make_optimizer(model, method)) == []
    layers = adapted_layers(model, "default")
    whole = [(layer.A.detach().clone(), layer.B.detach().clone()) for layer in layers]
    for rank in method.truncations():
        for layer, (A, B) in zip(layers, whole, strict=True):
            assert layer.rank == rank
            small_A, small_B = truncate(A, B, rank)
            torch.testing.assert_close(layer.B @ layer.A, small_B @ small_A, rtol=1e-4, atol=1e-6)
    assert {layer.rank for layer in layers} == {1}
