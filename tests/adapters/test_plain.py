"""Plain factors and gates: what is exported computes what the adapted layer adds."""

import pytest
import torch
from torch import nn

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.gates import add_gates
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.plain import plain_layers
from prunedlora.adapters.shrink import grow, set_factors, shrink

SETTINGS = AdapterSettings(3, 6.0, True, 0.0, ["0"], [])
X = torch.linspace(-1, 1, 10, dtype=torch.float64).view(2, 5)


def base() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4)).double()


def added(model) -> torch.Tensor:
    """What the adapter adds to the base layer's output."""
    return (model(X) - base()(X)).detach()


@pytest.mark.parametrize("kind", ["lora", "gates", "adalora"])
def test_factors_give_what_the_layer_adds(kind):
    fields = {"target_r": 1, "tinit": 1, "tfinal": 1, "deltaT": 1, "total_step": 10}
    model = attach(base(), SETTINGS, "a", 0, fields if kind == "adalora" else None)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        if kind == "gates":
            add_gates(adapted_layers(model, "a"))
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.uniform_(0.1, 0.9)
        if kind == "adalora":
            model.get_base_model()[0].lora_E["a"][1] = 0.0
    (layer,) = plain_layers(model, "a")
    assert layer.rank == (2 if kind == "adalora" else 3)
    torch.testing.assert_close(X @ layer.A.T @ layer.B.T, added(model.eval()), rtol=1e-10, atol=1e-12)


def gated():
    model = attach(base(), SETTINGS, "a", 0)
    layers = adapted_layers(model, "a")
    handles = add_gates(layers)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        layers[0].B.normal_()
        layers[0].gate.uniform_(0.2, 0.9)
    return model, layers[0], handles


def test_gates_shrink_and_grow_with_their_components():
    model, layer, handles = gated()
    optimizer = torch.optim.AdamW([layer.A, layer.B, layer.gate])
    model(X).sum().backward()
    optimizer.step()
    moments = optimizer.state[layer.gate]["exp_avg"].clone()
    gate = layer.gate.detach().clone()
    before = added(model)
    shrink(layer, torch.tensor([0, 2]), optimizer)
    assert torch.equal(layer.gate, gate[[0, 2]])
    assert torch.equal(optimizer.state[layer.gate]["exp_avg"], moments[[0, 2]])
    without = added(model)
    assert not torch.allclose(without, before)
    grow(layer, torch.ones(2, 5, dtype=torch.float64), optimizer)
    assert layer.gate.tolist() == [*gate[[0, 2]].tolist(), 1.0, 1.0]
    assert optimizer.state[layer.gate]["exp_avg"].tolist() == [*moments[[0, 2]].tolist(), 0.0, 0.0]
    assert layer.rank == layer.lora_A.out_features == layer.lora_B.in_features == layer.module.r["a"] == 4
    torch.testing.assert_close(added(model), without)
    assert [group["params"] for group in optimizer.param_groups] == [[layer.A, layer.B, layer.gate]]
    model(X).sum().backward()
    optimizer.step()
    for handle in handles:
        handle.remove()


def test_rows_of_another_width_are_refused():
    _, layer, _ = gated()
    with pytest.raises(ValueError, match=r"layer '0' takes rows \(k, 5\), got \(2, 4\)"):
        grow(layer, torch.ones(2, 4), None)


def test_a_gate_is_set_with_the_factors_or_not_at_all():
    _, layer, _ = gated()
    A, B = torch.ones(2, 5), torch.ones(4, 2)
    set_factors(layer, A, B, None, torch.ones(2))
    assert layer.gate.shape == (2,)
    with pytest.raises(ValueError, match=r"layer '0' takes a gate \(2,\), got None"):
        set_factors(layer, A, B, None)
    with pytest.raises(ValueError, match=r"layer '0' takes a gate \(2,\), got \(3,\)"):
        set_factors(layer, A, B, None, torch.ones(3))
    (plain,) = adapted_layers(attach(base(), SETTINGS, "a", 0), "a")
    with pytest.raises(ValueError, match=r"layer '0' takes no gate, got \(2,\)"):
        set_factors(plain, A, B, None, torch.ones(2))
