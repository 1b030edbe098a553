import copy

import pytest
import torch
from torch import nn

from prunedlora.adapters.attach import attach, detach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.targets import TargetError


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything about a model that an adapter could leave something in."""
    return {
        "modules": [(name, type(module)) for name, module in model.named_modules()],
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "trained": [(name, parameter.requires_grad) for name, parameter in model.named_parameters()],
        "hooks": [
            (name, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for name, m in model.named_modules()
        ],
        "peft_config": hasattr(model, "peft_config"),
        "config": model.config.to_dict(),
        "identities": [id(parameter) for parameter in model.parameters()],
    }


def assert_same(left: dict[str, object], right: dict[str, object]) -> None:
    weights, others = left.pop("weights"), right.pop("weights")
    assert left == right
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("kind", ["bert", "llama", "llama_classifier", "gpt2"])
def test_attach_and_detach_leave_no_residue(kind, make_model, settings, batch):
    model = make_model(kind)
    next(model.parameters()).requires_grad_(False)
    before = snapshot(model)
    for _ in range(2):
        adapted = attach(model, settings(kind, dropout=0.1), "default", 0)
        optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            adapted(**batch).logits.square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert detach(adapted) is model
        assert_same(before.copy(), snapshot(model))


def test_a_new_adapter_changes_nothing_and_only_it_and_the_head_train(make_model, settings, batch):
    model = make_model("bert").eval()
    expected = model(**batch).logits
    adapted = attach(model, settings("bert"), "default", 0)
    assert torch.equal(adapted(**batch).logits, expected)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert all(".lora_" in name or ".modules_to_save." in name for name in trained)
    assert len(trained) == 12 * 2 + 4


def test_A_depends_on_the_seed_only_and_the_callers_random_state_is_kept(make_model, settings):
    factors = []
    for seed, draws in ((0, 0), (0, 3), (1, 0)):
        torch.manual_seed(draws)
        state = torch.get_rng_state()
        adapted = attach(make_model("bert"), settings("bert"), "default", seed)
        assert torch.equal(state, torch.get_rng_state())
        factors.append([layer.A for layer in adapted_layers(adapted, "default")])
        assert all(not layer.B.any() for layer in adapted_layers(adapted, "default"))
    assert all(torch.equal(a, b) for a, b in zip(factors[0], factors[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(factors[0], factors[2], strict=True))


@pytest.mark.parametrize(("use_rslora", "scaling"), [(False, 1.5), (True, 3.0)])
def test_scaling(use_rslora, scaling, make_model, settings):
    adapted = attach(make_model("llama"), settings("llama", use_rslora=use_rslora), "default", 0)
    assert {layer.scaling for layer in adapted_layers(adapted, "default")} == {scaling}


def test_layers_are_named_and_ordered_as_in_the_base_model(make_model, settings):
    model = make_model("llama")
    order = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]
    layers = adapted_layers(attach(model, settings("llama"), "default", 0), "default")
    assert [layer.name for layer in layers] == order
    down = next(layer for layer in layers if layer.name == "model.layers.0.mlp.down_proj")
    assert (down.A.shape, down.B.shape, down.rank) == ((4, 24), (16, 4), 4)


def test_factors_and_head_of_a_low_precision_base_are_float32(make_model, settings, batch):
    model = make_model("bert").to(torch.bfloat16)
    adapted = attach(model, settings("bert"), "default", 0)
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    adapted(**batch).logits.sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adapted(**batch).logits.sum().backward()
    assert {p.dtype for p in detach(adapted).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients_and_its_hooks_go(use_reentrant, make_model, settings, batch):
    gradients = []
    for checkpointing in (False, True):
        model = make_model("llama")
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        before = snapshot(model)
        adapted = attach(model, settings("llama"), "default", 0)
        adapted(**batch).logits.square().sum().backward()
        gradients.append([layer.B.grad for layer in adapted_layers(adapted, "default")])
        detach(adapted)
        assert_same(before, snapshot(model))
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=1e-10)


def test_errors_name_the_trouble_and_leave_the_model_alone(make_model, settings):
    model = make_model("bert")
    before = snapshot(model)
    with pytest.raises(TargetError, match="target module 'q_proj' matches nothing"):
        attach(model, settings("bert", target_modules=["q_proj"]), "default", 0)
    with pytest.raises(TargetError, match="head module 'score' matches no module"):
        attach(model, settings("bert", head_modules=["score"]), "default", 0)
    assert_same(before, snapshot(model))
    adapted = attach(model, settings("bert"), "default", 0)
    with pytest.raises(ValueError, match="the base model still carries an adapter; detach it first"):
        attach(model, settings("bert"), "default", 0)
    with pytest.raises(ValueError, match="detach takes what attach returned"):
        detach(copy.copy(model))
    detach(adapted)
