import pytest
import torch

from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.plain import plain_layers


def test_the_number_of_components_is_the_same_after_every_step(make_base, make_method, make_optimizer, train):
    method = make_method("l1ra")
    model = method.attach(make_base(), "default")
    optimizer = make_optimizer(model, method)
    layers = adapted_layers(model, "default")
    events = []
    for step in range(1, 13):
        events += train(method, model, optimizer, first=step, last=step)
        assert sum(layer.rank for layer in layers) == 6 * len(layers)
        assert min(layer.rank for layer in layers) >= 1
        assert all(gate.min() >= 0 and gate.max() <= 1 for layer in layers if (gate := layer.gate) is not None)
    assert events
    assert all(sum(event.ranks.values()) == 6 * len(layers) for event in events)
    assert any(rank != 6 for rank in events[-1].ranks.values())
    assert {event.step % method.every_steps for event in events} == {0}


def test_new_components_change_nothing_at_first_and_start_with_zero_moments(
    make_base, make_method, make_optimizer, train
):
    method = make_method("l1ra", every=0.5)
    model = method.attach(make_base(), "default")
    optimizer = make_optimizer(model, method)
    train(method, model, optimizer, last=5)
    ids = torch.arange(1, 9)[None]
    layers = adapted_layers(model, "default")
    with torch.no_grad():
        layers[0].gate[1:3] = 0.0  # what goes does nothing, so that only what comes could change the logits
    before = model.eval()(input_ids=ids).logits
    shrink_penalty, method.penalty = method.penalty, 0.0
    method.settings = type(method.settings)(**{**vars(method.settings), "threshold": 1e-9})
    event = method.step(6, 0.5, optimizer)
    method.penalty = shrink_penalty
    assert event is not None
    assert event.removed == {layers[0].name: [1, 2]}
    torch.testing.assert_close(model(input_ids=ids).logits, before)
    takers = [layer for layer in layers[1:] if layer.rank == 7]
    assert len(takers) == 2
    for layer in takers:
        for parameter, row in ((layer.A, layer.A[-1]), (layer.B, layer.B[:, -1])):
            state = optimizer.state[parameter]
            assert state["exp_avg"].shape == parameter.shape
            assert state["step"] == 5
            dim = 0 if parameter is layer.A else 1
            assert not state["exp_avg"].select(dim, -1).any()
            assert not state["exp_avg_sq"].select(dim, -1).any()
            assert bool(row.any()) == (parameter is layer.A)
        assert layer.gate[-1] == 1


def test_export_folds_the_gates(make_base, make_method):
    model = make_method("l1ra").attach(make_base(), "default")
    layer = adapted_layers(model, "default")[0]
    with torch.no_grad():
        layer.B.normal_()
        layer.gate.copy_(torch.linspace(0, 1, 6))
    plain = plain_layers(model, "default")[0]
    expected = layer.scaling * layer.B @ torch.diag(layer.gate) @ layer.A
    torch.testing.assert_close(plain.B @ plain.A, expected)


def test_a_penalty_alone_takes_a_gate_down_by_its_value_over_the_training(make_method):
    method = make_method("l1ra", gate_penalty=0.6)
    assert method.penalty * 12 == pytest.approx(0.6)


def test_a_training_too_short_to_reallocate_is_refused(make_method):
    with pytest.raises(ValueError, match=r"l1ra\.every 0\.01 of 12 training steps is less than half a step"):
        make_method("l1ra", every=0.01)
