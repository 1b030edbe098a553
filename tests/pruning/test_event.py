"""One event against the formulas: on one side, with the gradient, on both sides, and in another basis."""

import pytest
import torch

from prunedlora.adapters.shrink import shrink
from prunedlora.pruning.pruner import Pruner
from prunedlora.pruning.recovery import capped_gradient_scale, damp, inverse_of
from prunedlora.registry import names
from tests.pruning.oracles import optimal_change, removal_cost
from tests.pruning.variants import VARIANTS

ONE_SIDED = [(c, s, a) for c in names("curvature") for s in ("A", "B") for a in ("uniform", "global")]


def reference_event(weights, curvatures, num, damping, strength, min_rank, allocation):
    """One event, layer by layer and choice by choice from the joint cost: (new W, removed) per layer."""
    damped = [H + damping * H.trace() / len(H) * torch.eye(len(H), dtype=H.dtype) for H in curvatures]

    def cost(layer, pruned):
        mask = torch.zeros(1, weights[layer].shape[1], dtype=torch.bool)
        mask[0, pruned] = True
        return removal_cost((weights[layer].T @ weights[layer])[None], damped[layer][None], mask).item()

    sequences = []
    for layer, W in enumerate(weights):
        order, costs = [], []
        while len(order) < W.shape[1] - min_rank:
            rest = [j for j in range(W.shape[1]) if j not in order]
            best = min(rest, key=lambda j: cost(layer, [*order, j]))
            costs.append(cost(layer, [*order, best]) - cost(layer, order))
            order.append(best)
        sequences.append((order, costs))
    if allocation == "uniform":
        counts = [num] * len(weights)
    else:
        entries = sorted(
            (max(costs[: position + 1]), layer, position)
            for layer, (_, costs) in enumerate(sequences)
            for position in range(len(costs))
        )
        counts = [sum(entry[1] == layer for entry in entries[:num]) for layer in range(len(weights))]
    results = []
    for layer, W in enumerate(weights):
        chosen = sorted(sequences[layer][0][: counts[layer]])
        mask = torch.zeros(W.shape[1], dtype=torch.bool)
        mask[chosen] = True
        change = optimal_change(W[None], torch.zeros_like(W)[None], damped[layer][None], mask[None])[0]
        results.append(((W + torch.where(mask, 1.0, strength) * change)[:, ~mask], chosen))
    return results


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("curvature", "side", "allocation"), ONE_SIDED)
def test_an_event_is_what_the_formulas_say(curvature, side, allocation, strength, make_network, make_settings, data):
    model, layers = make_network(started=True)
    settings = make_settings(
        curvature=curvature,
        recovery_side=side,
        allocation=allocation,
        recovery_strength=strength,
        schedule="one_shot",
        end=None,
        every_steps=1,
        target_rank=3,
        min_rank=1,
    )
    pruner = Pruner(settings, layers)
    kept = [[0, 2, 3, 5], [1, 2, 3, 4], [0, 1, 4, 5] if allocation == "uniform" else [0, 1, 2, 4, 5]]
    num = 1 if allocation == "uniform" else 4
    for layer, keep in zip(layers, kept, strict=True):  # as after an earlier event; unequal ranks share the batch
        shrink(layer, torch.tensor(keep), None)
    average = f"average.curvature.{side}"
    zeros = {f"{average}.{layer.name}": torch.zeros(layer.rank, layer.rank, dtype=torch.float64) for layer in layers}
    pruner.load_state_dict({"num_observed": torch.tensor(0), **zeros})
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    H = [pruner.state_dict()[f"{average}.{layer.name}"] / (1 - 0.8) for layer in layers]
    weights = [layer.B.detach().clone() if side == "B" else layer.A.detach().T.clone() for layer in layers]
    others = [layer.A.detach().clone() if side == "B" else layer.B.detach().T.clone() for layer in layers]
    expected = reference_event(weights, H, num, 0.01, strength, 1, allocation)
    event = pruner.step(4, 0.2, None)
    for layer, other, (W, chosen) in zip(layers, others, expected, strict=True):
        assert event.removed.get(layer.name, []) == chosen
        kept = [j for j in range(len(other)) if j not in chosen]
        mine, untouched = (layer.B, layer.A) if side == "B" else (layer.A.T, layer.B.T)
        torch.testing.assert_close(mine.detach(), W, rtol=0, atol=1e-10)
        assert torch.equal(untouched, other[kept])


def after_an_event(make_network, make_settings, data, **overrides):
    model, layers = make_network(started=True)
    settings = make_settings(schedule="one_shot", end=None, target_rank=4, **overrides)
    pruner = Pruner(settings, layers)
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe(1.0)  # the gradient is that of the sum
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


def test_a_layer_without_gradient_goes_first_and_is_not_recovered(make_network, make_settings, data):
    model, layers = make_network(targets=("first", "second", "third", "spare"), started=True)
    settings = make_settings(allocation="global", schedule="one_shot", end=None, target_rank=5, min_rank=3)
    pruner, spare = Pruner(settings, layers), layers[3]
    A, B = spare.A.detach().clone(), spare.B.detach().clone()
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    event = pruner.step(4, 0.2, None)
    assert event.removed["spare"] == [0, 1, 2]
    assert sum(len(gone) for gone in event.removed.values()) == 4
    assert torch.equal(spare.A, A[3:])
    assert torch.equal(spare.B, B[:, 3:])


@pytest.mark.parametrize("basis", ["svd", "whitened"])
def test_a_removal_in_another_basis_leaves_most_of_the_product(basis, make_network, make_settings, data):
    """In basis svd as much as any matrix of that rank can; in whitened less by norm, which is not what it keeps."""
    model, layers = make_network(started=True)
    settings = make_settings(**VARIANTS[f"{basis}-mapped-uniform-one_shot"] | {"target_rank": 4})
    pruner = Pruner(settings, layers)
    before = [(layer.B @ layer.A).detach().clone() for layer in layers]
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    pruner.step(4, 0.2, None)
    for layer, product in zip(layers, before, strict=True):
        assert layer.rank == 4
        error = (layer.B @ layer.A - product).detach()
        best = torch.linalg.svdvals(product)[4:].square().sum().sqrt()
        if basis == "svd":
            torch.testing.assert_close(error.norm(), best, rtol=1e-8, atol=1e-10)
        else:
            assert best < error.norm() < product.norm()
