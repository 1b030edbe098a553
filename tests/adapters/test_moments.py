"""Gradients and optimizer state under a change of basis: oracles are autograd and the squared map."""

import pytest
import torch
from torch import nn

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.moments import MomentsError, map_moments


@pytest.fixture
def layer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = attach(nn.Sequential(nn.Linear(5, 4)).double(), AdapterSettings(3, 3.0, False, 0.0, ["0"], []), "a", 0)
        (layer,) = adapted_layers(model, "a")
        with torch.no_grad():
            layer.B.normal_()
    return layer


@pytest.fixture
def T():
    return torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss(A, B):
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).view(2, 5)
    return torch.sin(x @ A.T @ B.T).sum()


def test_mapped_gradients_and_first_moments_are_those_of_the_new_basis(layer, T):
    """Oracle: autograd on A' = T A and B' = B T⁻¹."""
    optimizer = torch.optim.AdamW([layer.A, layer.B])
    loss(layer.A, layer.B).backward()
    optimizer.step()
    before = {name: optimizer.state[p]["exp_avg_sq"].clone() for name, p in (("A", layer.A), ("B", layer.B))}
    optimizer.zero_grad()
    loss(layer.A, layer.B).backward()
    for parameter in (layer.A, layer.B):
        optimizer.state[parameter]["exp_avg"] = parameter.grad.clone()
    T_inverse = torch.linalg.inv(T)
    new_A = (T @ layer.A).detach().requires_grad_(True)
    new_B = (layer.B @ T_inverse).detach().requires_grad_(True)
    loss(new_A, new_B).backward()
    map_moments(layer, T, T_inverse, None, optimizer, "mapped")
    for parameter, new in ((layer.A, new_A), (layer.B, new_B)):
        torch.testing.assert_close(parameter.grad, new.grad, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(optimizer.state[parameter]["exp_avg"], new.grad, rtol=1e-10, atol=1e-12)
        assert optimizer.state[parameter]["step"] == 1
    squared = T_inverse.mT.square() @ before["A"]
    torch.testing.assert_close(optimizer.state[layer.A]["exp_avg_sq"], squared, rtol=1e-10, atol=1e-14)
    squared = before["B"] @ T.mT.square()
    torch.testing.assert_close(optimizer.state[layer.B]["exp_avg_sq"], squared, rtol=1e-10, atol=1e-14)


def test_only_the_live_components_are_mapped(layer, T):
    optimizer = torch.optim.SGD([layer.A, layer.B], lr=0.1, momentum=0.9)
    loss(layer.A, layer.B).backward()
    optimizer.step()
    whole = optimizer.state[layer.A]["momentum_buffer"].clone()
    part = T[:2, :2]
    map_moments(layer, part, torch.linalg.inv(part), torch.tensor([0, 2]), optimizer, "mapped")
    mapped = optimizer.state[layer.A]["momentum_buffer"]
    assert torch.equal(mapped[1], whole[1])
    torch.testing.assert_close(mapped[[0, 2]], torch.linalg.inv(part).mT @ whole[[0, 2]], rtol=1e-10, atol=1e-14)


def test_reset_drops_the_state_of_both_factors(layer, T):
    optimizer = torch.optim.AdamW([layer.A, layer.B])
    loss(layer.A, layer.B).backward()
    optimizer.step()
    map_moments(layer, T, torch.linalg.inv(T), None, optimizer, "reset")
    assert not optimizer.state


def test_an_optimizer_with_state_of_another_kind_is_refused(layer, T):
    optimizer = torch.optim.Adadelta([layer.A, layer.B])
    loss(layer.A, layer.B).backward()
    optimizer.step()
    with pytest.raises(MomentsError, match=r"state 'square_avg' of layer '0' has no known map .* use AdamW or SGD, or"):
        map_moments(layer, T, torch.linalg.inv(T), None, optimizer, "mapped")
