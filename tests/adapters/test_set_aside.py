"""Factors set aside for others: what computes meanwhile, and that the same Parameters come back."""

import pytest
import torch
from torch import nn

from prunedlora.adapters.attach import attach
from prunedlora.adapters.gates import add_gates
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.adapters.set_aside import set_aside
from prunedlora.adapters.shrink import set_factors


@pytest.fixture
def trained(make_model, settings):
    """A Llama whose adapter does something."""
    model = attach(make_model("llama"), settings("llama"), "default", 0)
    layers = adapted_layers(model, "default")
    with torch.no_grad():
        for layer in layers:
            layer.B.normal_(std=0.3)
    return model, layers


def parameters(layers: list[AdaptedLayer]) -> list[nn.Parameter | None]:
    return [parameter for layer in layers for parameter in (layer.A, layer.B, layer.gate)]


@pytest.mark.parametrize("gated", [False, True])
def test_the_same_parameters_come_back_whatever_stood_in_for_them(gated, trained, batch):
    model, layers = trained
    handles = add_gates(layers) if gated else []
    with torch.no_grad():
        for layer in layers:
            if layer.gate is not None:
                layer.gate.uniform_(0.2, 1.0)
    own, before = parameters(layers), model(**batch).logits
    values = [None if parameter is None else parameter.detach().clone() for parameter in own]
    with set_aside(layers):
        assert not {id(p) for p in own if p is not None} & {id(p) for p in parameters(layers)}
        assert all(layer.gate is None or bool((layer.gate == 1).all()) for layer in layers)
        torch.testing.assert_close(model(**batch).logits, before, rtol=0, atol=1e-10)
        model(**batch).logits.sum().backward()
        for layer in layers:
            gate = None if layer.gate is None else torch.ones(1)
            set_factors(layer, layer.A[:1], layer.B[:, :1], None, gate)
        assert not torch.allclose(model(**batch).logits, before)
    assert all(left is right for left, right in zip(parameters(layers), own, strict=True))
    assert all(p is None or (torch.equal(p, v) and p.grad is None) for p, v in zip(own, values, strict=True))
    assert {layer.rank for layer in layers} == {layer.module.r["default"] for layer in layers} == {4}
    assert torch.equal(model(**batch).logits, before)
    for handle in handles:
        handle.remove()


def test_they_come_back_after_an_error_too(trained):
    _, layers = trained
    own = parameters(layers)

    def fail() -> None:
        with set_aside(layers):
            raise KeyError("in between")

    with pytest.raises(KeyError, match="in between"):
        fail()
    assert all(left is right for left, right in zip(parameters(layers), own, strict=True))
