import pytest
import torch

from prunedlora.adapters.attach import attach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.moments import map_moments
from prunedlora.adapters.shrink import grow, set_factors, shrink


@pytest.fixture
def trained(make_model, settings, batch):
    """A Llama with an adapter of rank 4, some AdamW steps in, gradients pending."""
    model = attach(make_model("llama"), settings("llama"), "default", 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, amsgrad=True)

    def backward():
        model(**batch).logits.square().mean().backward()

    for _ in range(3):
        optimizer.zero_grad()
        backward()
        optimizer.step()
    optimizer.zero_grad()
    backward()
    return model, adapted_layers(model, "default"), optimizer, backward


@pytest.mark.parametrize("keep", [[0, 2], [3], [], [0, 1, 2, 3]])
def test_shrinking_changes_the_forward_as_masking_does(keep, trained, batch):
    model, layers, optimizer, _ = trained
    gone = [j for j in range(4) if j not in keep]
    for layer in layers:
        with torch.no_grad():
            layer.B[:, gone] = 0
    masked = model(**batch).logits
    for layer in layers:
        shrink(layer, torch.tensor(keep, dtype=torch.int64), optimizer)
    assert {layer.rank for layer in layers} == {len(keep)}
    torch.testing.assert_close(model(**batch).logits, masked, rtol=0, atol=1e-10)


def test_factors_gradients_and_moments_are_sliced_alike(trained):
    _, layers, optimizer, _ = trained
    layer, keep = layers[0], torch.tensor([1, 3])
    before = [
        (p.detach().clone(), p.grad.clone(), {k: v.clone() for k, v in optimizer.state[p].items()})
        for p in (layer.A, layer.B)
    ]
    old, scaling = (layer.A, layer.B), layer.scaling
    shrink(layer, keep, optimizer)
    for dim, parameter, (weight, grad, state) in zip((0, 1), (layer.A, layer.B), before, strict=True):
        assert parameter.requires_grad
        assert torch.equal(parameter, weight.index_select(dim, keep))
        assert torch.equal(parameter.grad, grad.index_select(dim, keep))
        assert optimizer.state[parameter].keys() == state.keys() >= {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
        for name, value in state.items():
            expected = value if name == "step" else value.index_select(dim, keep)
            assert torch.equal(optimizer.state[parameter][name], expected)
    assert layer.scaling == scaling
    assert (layer.module.r["default"], layer.lora_A.out_features, layer.lora_B.in_features) == (2, 2, 2)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert not any(p is q for p in held for q in old)
    assert not any(p in optimizer.state for p in old)
    assert len(held) == len({id(p) for p in held}) == 2 * len(layers)


def test_survivors_train_on_as_if_the_others_had_been_masked(trained):
    """AdamW works number by number, so a shrunk layer must follow the masked one."""
    _, layers, optimizer, backward = trained
    for layer in layers:
        with torch.no_grad():
            layer.B[:, 2:] = 0
            layer.A[2:] = 0
        for parameter in (layer.A, layer.B):
            for name, value in optimizer.state[parameter].items():
                if name != "step":
                    (value[2:] if parameter is layer.A else value[:, 2:]).zero_()
    optimizer.zero_grad()
    start = [(layer.A.detach().clone(), layer.B.detach().clone()) for layer in layers]
    saved = optimizer.state_dict()
    saved = {**saved, "state": {i: {k: v.clone() for k, v in s.items()} for i, s in saved["state"].items()}}

    def train():
        for _ in range(3):
            optimizer.zero_grad()
            backward()
            optimizer.step()
        return [(layer.A.detach().clone(), layer.B.detach().clone()) for layer in layers]

    masked = train()
    for layer, (A, B) in zip(layers, start, strict=True):
        set_factors(layer, A, B, optimizer)
    optimizer.load_state_dict(saved)
    for layer in layers:
        shrink(layer, torch.tensor([0, 1]), optimizer)
    for (A, B), (A_masked, B_masked) in zip(train(), masked, strict=True):
        torch.testing.assert_close(A, A_masked[:2], rtol=0, atol=1e-10)
        torch.testing.assert_close(B, B_masked[:, :2], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.AdamW,
        lambda p: torch.optim.AdamW(p, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ],
)
def test_training_goes_on_after_every_shrink_down_to_rank_0(make, make_model, settings, batch):
    model = attach(make_model("bert"), settings("bert", dropout=0.1), "default", 0)
    layers = adapted_layers(model, "default")
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    for rank in (3, 1, 0):
        for layer in layers:
            shrink(layer, torch.arange(rank), optimizer)
        model(**batch).logits.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert {layer.rank for layer in layers} == {0}


def test_fused_adamw_follows_every_change_of_rank_as_the_plain_one_does(make_model, settings, batch):
    """Its kernel goes through memory without looking at strides; a state in another order would be another's."""

    def train(fused):
        torch.manual_seed(0)
        model = attach(make_model("llama"), settings("llama", initial_rank=4), "default", 0).double()
        layers = adapted_layers(model, "default")
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=fused)

        def steps():
            for _ in range(2):
                model(**batch).logits.square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()

        steps()
        for layer in layers:
            shrink(layer, torch.tensor([0, 2, 3]), optimizer)
        steps()
        T = torch.linalg.qr(torch.arange(9.0, dtype=torch.float64).view(3, 3).sin())[0]
        for layer in layers:
            with torch.no_grad():
                layer.A.copy_(T @ layer.A)
                layer.B.copy_(layer.B @ T.mT)
            map_moments(layer, T, T.mT, None, optimizer, "mapped")
        steps()
        for layer in layers:
            grow(layer, torch.ones(2, layer.A.shape[1]), optimizer)
        map_moments(layers[0], T, T.mT, None, optimizer, "reset")  # its step counts begin anew
        steps()
        return [factor.detach() for layer in layers for factor in (layer.A, layer.B)]

    for plain, fused in zip(train(False), train(True), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("keep", [[2, 1], [0, 0], [4], [-1, 0]])
def test_indices_that_are_no_selection_are_refused(keep, trained):
    _, layers, optimizer, _ = trained
    with pytest.raises(ValueError, match=r"of rank 4: keep must be strictly increasing int64 indices, got \["):
        shrink(layers[0], torch.tensor(keep), optimizer)
    assert layers[0].rank == 4


def test_a_mask_is_no_selection(trained):
    with pytest.raises(ValueError, match="must be strictly increasing int64 indices"):
        shrink(trained[1][0], torch.tensor([False, True]), None)


def test_set_factors_takes_any_rank_and_drops_the_layers_optimizer_state(trained, batch):
    model, layers, optimizer, backward = trained
    layer = layers[0]
    A, B = torch.randn(2, layer.A.shape[1], dtype=torch.float64), torch.randn(layer.B.shape[0], 2, dtype=torch.float64)
    set_factors(layer, A, B, optimizer)
    assert torch.equal(layer.A, A)
    assert torch.equal(layer.B, B)
    assert layer.A is not A
    assert layer.A not in optimizer.state
    assert len(optimizer.state) == 2 * len(layers) - 2
    optimizer.zero_grad()
    backward()
    optimizer.step()
    assert optimizer.state[layer.A]["exp_avg"].shape == A.shape
    model(**batch)


def test_set_factors_refuses_shapes_that_do_not_fit(trained):
    layer = trained[1][0]
    with pytest.raises(ValueError, match=r"takes A \(r, 16\) and B \(16, r\), got \(2, 16\) and \(16, 3\)"):
        set_factors(layer, torch.zeros(2, 16), torch.zeros(16, 3), None)
