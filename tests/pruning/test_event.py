"""One event against the formulas, in the forms beside the default: with the gradient, and on both sides."""

import pytest
import torch

from prunedlora.pruning.pruner import Pruner
from prunedlora.pruning.recovery import capped_gradient_scale, damp, inverse_of
from tests.pruning.oracles import optimal_change


def after_an_event(make_network, make_settings, data, **overrides):
    model, layers = make_network(started=True)
    settings = make_settings(schedule="one_shot", end=None, target_rank=4, **overrides)
    pruner = Pruner(settings, layers)
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    state = {name: value.clone() for name, value in pruner.state_dict().items()}
    before = [(layer.A.detach().clone(), layer.B.detach().clone()) for layer in layers]
    gradients = [layer.B.grad.clone() for layer in layers]
    event = pruner.step(4, 0.2, None)
    return layers, event, state, before, gradients


def damped(state, side, name):
    alive = torch.ones(1, 6, dtype=torch.bool)
    return damp(state[f"average.curvature.{side}.{name}"][None] / (1 - 0.8), alive, 0.01)[0]


@pytest.mark.parametrize("cap", [0.05, 100.0])
def test_with_the_gradient_the_survivors_move_by_the_whole_optimal_change(cap, make_network, make_settings, data):
    layers, event, state, before, gradients = after_an_event(make_network, make_settings, data, gradient_cap=cap)
    for layer, (_, B), G in zip(layers, before, gradients, strict=True):
        H = damped(state, "B", layer.name)
        scale = capped_gradient_scale((G.T @ G)[None], inverse_of(H), B.norm()[None], cap)
        assert (scale < 1).item() == (cap < 1)
        pruned = torch.zeros(1, 6, dtype=torch.bool)
        pruned[0, event.removed[layer.name]] = True
        expected = B + optimal_change(B[None], scale[:, None, None] * G[None], H, pruned)[0]
        torch.testing.assert_close(layer.B.detach(), expected[:, ~pruned[0]], rtol=0, atol=1e-10)


def test_both_sides_are_compensated_each_by_its_own_problem(make_network, make_settings, data):
    """The paper's sum, kept for comparison: at full strength the product is compensated twice."""
    layers, event, state, before, _ = after_an_event(make_network, make_settings, data, recovery_side="both")
    for layer, (A, B) in zip(layers, before, strict=True):
        pruned = torch.zeros(1, 6, dtype=torch.bool)
        pruned[0, event.removed[layer.name]] = True
        for side, W, found in (("B", B, layer.B), ("A", A.T, layer.A.T)):
            change = optimal_change(W[None], torch.zeros_like(W)[None], damped(state, side, layer.name), pruned)[0]
            torch.testing.assert_close(found.detach(), (W + change)[:, ~pruned[0]], rtol=0, atol=1e-10)


def test_an_adapter_that_loses_everything_has_an_ordinary_learning_rate(make_network, make_settings, data):
    """A share just below 1 of few components is rounded to all of them."""
    model, layers = make_network(started=True)
    settings = make_settings(
        schedule="one_shot", end=None, target_rank=None, target_sparsity=0.99, allocation="global", min_rank=0,
        rate_growth=0.5,
    )  # fmt: skip
    pruner = Pruner(settings, layers)
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    assert pruner.rate_factor == 1.0
    assert pruner.step(4, 0.2, None) is not None
    assert {layer.rank for layer in layers} == {0}
    assert pruner.rate_factor == 1.0
