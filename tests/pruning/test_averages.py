"""What is averaged over steps, and how it is resumed."""

import pytest
import torch

from prunedlora.pruning.pruner import Pruner
from prunedlora.registry import names
from tests.pruning.factors import factors


def test_the_average_is_corrected_for_its_start(make_network, make_settings, data):
    """A constant curvature averages to itself after any number of steps: the events are the same."""
    results = []
    for repeats in (1, 5):
        model, layers = make_network(started=True)
        pruner = Pruner(make_settings(schedule="one_shot", end=None), layers)
        x, y = data(0)
        for _ in range(repeats):
            (model(x) - y).square().sum().backward()
            pruner.observe()
        results.append((pruner.step(4, 0.2, None).removed, factors(layers)))
    assert results[0][0] == results[1][0]
    for pair, other in zip(results[0][1], results[1][1], strict=True):
        for a, b in zip(pair, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_a_state_of_another_adapter_is_refused(make_network, make_settings):
    _, layers = make_network()
    pruner = Pruner(make_settings(), layers)
    state = pruner.state_dict()
    with pytest.raises(
        ValueError, match=r"does not fit the adapter; missing or unexpected: average\.curvature\.B\.first"
    ):
        pruner.load_state_dict({name: H for name, H in state.items() if name != "average.curvature.B.first"})
    with pytest.raises(
        ValueError, match=r"'average\.curvature\.B\.first' has shape \(2, 2\), but the layer has rank 6"
    ):
        pruner.load_state_dict(state | {"average.curvature.B.first": torch.zeros(2, 2)})


def by_the_whole_batch(model, x, y, repeats):
    """The sum over targets, as in our loop."""
    (model(x.repeat(repeats, 1, 1)) - y.repeat(repeats, 1, 1)).square().sum().backward()
    return y.numel() * repeats, 1.0


def by_means(model, x, y, repeats):
    """Means over processes' targets, gradients averaged over the processes, as DDP has it: `repeats` of them."""
    for _ in range(repeats):
        (model(x) - y).square().mean().backward()
    return y.numel() * repeats, 1.0 / y.numel()


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("curvature", names("curvature"))
@pytest.mark.parametrize("backward", [by_the_whole_batch, by_means])
def test_the_gradient_s_step_does_not_depend_on_the_targets_of_a_step(
    backward, curvature, side, make_network, make_settings, data
):
    """The same examples several times over: the optimum is the same, whatever the loss and its weights. A cap that
    never caps shows the whole step; for the Fisher of a sum N it is that of the summed loss."""
    moved = []
    for repeats in (1, 4, 32):
        model, layers = make_network(started=True)
        settings = make_settings(
            schedule="one_shot", end=None, gradient_cap=1e9, curvature=curvature, recovery_side=side, target_rank=4
        )
        pruner = Pruner(settings, layers)
        x, y = data(0)
        num_targets, weight = backward(model, x, y, repeats)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= num_targets * weight
        pruner.observe(num_targets * weight**2)
        before = [layer.B.norm().item() for layer in layers]
        pruner.step(4, 0.2, None)
        assert any(abs(layer.B.norm().item() / b - 1) > 1e-3 for layer, b in zip(layers, before, strict=True))
        moved.append(factors(layers))
    for other in moved[1:]:
        for pair, others in zip(moved[0], other, strict=True):
            for a, b in zip(pair, others, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_the_scale_of_the_gradient_is_averaged_as_the_curvature_is(make_network, make_settings, data):
    """Steps of 1 and of 7 times the same targets: the curvature's average is of as many as the scale's."""
    moved = []
    for order in ((1, 1, 1), (7, 1, 7)):
        model, layers = make_network(started=True)
        pruner = Pruner(make_settings(schedule="one_shot", end=None, gradient_cap=1e9, target_rank=4), layers)
        x, y = data(0)
        for repeats in order:
            model.zero_grad()
            num_targets, _ = by_the_whole_batch(model, x, y, repeats)
            for layer in layers:
                layer.B.grad /= num_targets
            pruner.observe(num_targets)
        resumed = Pruner(pruner.settings, layers)
        resumed.load_state_dict(pruner.state_dict())
        assert resumed.state_dict()["gradient_scale"] == pruner.state_dict()["gradient_scale"]
        resumed.close()
        pruner.step(4, 0.2, None)
        moved.append(factors(layers))
    for pair, others in zip(*moved, strict=True):
        for a, b in zip(pair, others, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_the_zero_gradient_form_asks_for_no_scale(make_network, make_settings, data):
    model, layers = make_network(started=True)
    plain, capped = Pruner(make_settings(), layers), Pruner(make_settings(gradient_cap=0.1), layers)
    assert "gradient_scale" not in plain.state_dict()
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    plain.observe()
    with pytest.raises(ValueError, match="gradient_cap with curvature 'token' needs a gradient_scale"):
        capped.observe()


def test_a_discarded_step_leaves_no_trace(make_network, make_settings, data):
    model, layers = make_network(started=True)
    pruner = Pruner(make_settings(), layers)
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    (model(x) * float("inf")).sum().backward()
    pruner.discard()
    assert not any(total.any() for total in pruner.statistics())
    assert pruner.state_dict()["num_observed"] == 0
