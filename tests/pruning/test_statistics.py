"""Statistics against their definitions, token by token; padding does not count; checkpointing collects once."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from prunedlora.registry import lookup, names


def backward(model, x, y, mask=None):
    loss = (model(x) - y).square()
    (loss if mask is None else loss * mask[..., None]).sum().backward()


def captured(layers, model, x, y, mask=None):
    """h and the gradients at lora_A's and lora_B's outputs of every layer, (tokens, …)."""
    found = [{} for _ in layers]
    handles = []
    for entry, layer in zip(found, layers, strict=True):

        def on_A(_, inputs, output, entry=entry):
            entry["h"] = output.detach().flatten(0, -2)
            output.register_hook(lambda u: entry.update(u=u.flatten(0, -2)))

        def on_B(_, inputs, output, entry=entry):
            output.register_hook(lambda g: entry.update(g=g.flatten(0, -2)))

        handles += [layer.lora_A.register_forward_hook(on_A), layer.lora_B.register_forward_hook(on_B)]
    backward(model, x, y, mask)
    for handle in handles:
        handle.remove()
    return found


@pytest.fixture
def padded(data):
    x, y = data(0)
    mask = torch.ones(x.shape[:-1], dtype=torch.float64)
    mask[1:, 3:] = 0
    return x, y, mask


def test_moments_are_those_of_the_tokens_that_count(make_network, padded):
    x, y, mask = padded
    model, layers = make_network(started=True)
    collectors = {name: lookup("statistic", name)(layers) for name in ("activation", "output_gradient")}
    found = captured(layers, model, x, y, mask)
    collected = {name: collector.collect() for name, collector in collectors.items()}
    counts = mask.flatten() > 0
    for index, entry in enumerate(found):
        assert torch.equal((entry["g"] != 0).any(-1), counts)
        h, u = entry["h"][counts], entry["u"][counts]
        torch.testing.assert_close(collected["activation"][index], h.T @ h / counts.sum(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(collected["output_gradient"][index], u.T @ u, rtol=1e-10, atol=1e-12)
    for collector in collectors.values():
        assert all(not value.any() for value in collector.collect())
        collector.close()
        collector.close()


def test_what_padding_holds_makes_no_difference(make_network, padded):
    x, y, mask = padded
    results = []
    for filler in (0.0, 7.0):
        model, layers = make_network(started=True)
        collector = lookup("statistic", "activation")(layers)
        backward(model, torch.where(mask[..., None] > 0, x, filler), y, mask)
        results.append(collector.collect())
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_sensitivity_is_the_first_order_term(make_network, data):
    model, layers = make_network(started=True)
    collector = lookup("statistic", "sensitivity")(layers)
    assert all(not value.any() for value in collector.collect())  # no gradients yet
    backward(model, *data(0))
    for layer, value in zip(layers, collector.collect(), strict=True):
        terms = [
            (layer.A.grad[j] * layer.A[j]).abs().sum() + (layer.B.grad[:, j] * layer.B[:, j]).abs().sum()
            for j in range(layer.rank)
        ]
        torch.testing.assert_close(value, torch.stack(terms).detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", names("statistic"))
class TestConformance:
    def test_halves_of_a_batch_add_up(self, name, make_network, data):
        x, y = data(0)
        model, layers = make_network(started=True)
        collector = lookup("statistic", name)(layers)
        backward(model, x, y)
        whole = [tensor.clone() for tensor in collector.statistics()], collector.collect()
        model.zero_grad()
        parts = []
        for shard in (slice(0, 2), slice(2, 4)):
            backward(model, x[shard], y[shard])
            parts.append([tensor.clone() for tensor in collector.statistics()])
            if collector.statistics() and shard.start == 0:
                for tensor in collector.statistics():
                    tensor.zero_()
        for total, first, second in zip(whole[0], *parts, strict=True):
            torch.testing.assert_close(first + second, total, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("use_reentrant", [True, False])
    def test_checkpointing_collects_once(self, name, use_reentrant, make_network, data):
        x, y = data(0)
        results = []
        for checkpointed in (False, True):
            model, layers = make_network(started=True)
            collector = lookup("statistic", name)(layers)
            inputs = x.clone().requires_grad_(True)
            output = checkpoint(model, inputs, use_reentrant=use_reentrant) if checkpointed else model(inputs)
            (output - y).square().sum().backward()
            results.append(collector.collect())
        assert any(value.any() for value in results[0])
        for plain, other in zip(*results, strict=True):
            torch.testing.assert_close(plain, other, rtol=1e-10, atol=1e-12)

    def test_resize_follows_the_rank_and_close_removes_hooks(self, name, make_network, data):
        model, layers = make_network(started=True)
        from prunedlora.adapters.shrink import shrink

        collector = lookup("statistic", name)(layers)
        shrink(layers[0], torch.tensor([0, 2]), None)
        collector.resize()
        backward(model, *data(0))
        assert collector.collect()[0].shape[0] == 2
        collector.close()
        assert not any(module._forward_hooks for module in model.modules())
