import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunedlora.adapters.attach import attach, detach
from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers, wrapped_heads
from prunedlora.adapters.shrink import shrink
from prunedlora.adapters.verify import VerificationError, check_logits, logits_of, verify


@pytest.fixture
def exported(make_model, settings, tmp_path):
    """A function that exports a BERT with adapter and head changed, ranks 0 to 3, from a base of a dtype."""

    def make(dtype=torch.float64):
        adapted = attach(make_model("bert").to(dtype), settings("bert", dropout=0.1), "default", 0)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for index, layer in enumerate(adapted_layers(adapted, "default")):
                layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * 0.1)
                shrink(layer, torch.arange(index % 4), None)
            for head in wrapped_heads(adapted).values():
                for parameter in head.modules_to_save["default"].parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        export(adapted, "default", tmp_path, "some/base")
        return adapted, tmp_path

    return make


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, change):
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def test_a_true_export_is_certified(exported, batch):
    adapted, folder = exported()
    certificate = verify(adapted, "default", folder, batch | {"labels": torch.tensor([0, 1, 2])}, merged=True)
    assert certificate.max_logit_difference_reloaded < 1e-10
    assert certificate.max_logit_difference_merged < 1e-10
    assert certificate.max_logit_change > 1e-3
    assert certificate.num_examples == 3
    assert 1e-4 <= certificate.tolerance < 1e-3
    assert verify(adapted, "default", folder, batch, merged=False).max_logit_difference_merged is None
    assert verify(adapted, "default", folder, batch, merged=False).rms_logit_difference_merged is None


@pytest.mark.parametrize(("low_precision", "allowed"), [(False, 1e-4), (True, 5e-2)])
def test_no_single_logit_decides(low_precision, allowed):
    expected = 2 * torch.randn(4, 20, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rounding = allowed * torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rounding[1, 3, 7] = 100 * allowed
    difference = check_logits(expected, expected + rounding, low_precision=low_precision, what="it")
    assert difference.max == pytest.approx(100 * allowed)
    assert difference.rms == pytest.approx(allowed, rel=0.1)
    assert difference.tolerance == pytest.approx(2 * allowed, rel=0.01)
    with pytest.raises(VerificationError, match=r"it gives other logits: off by \S+ in root mean square, allowed \S+"):
        check_logits(expected, (1 + 2 * allowed) * expected, low_precision=low_precision, what="it")
    with pytest.raises(VerificationError, match="off by nan"):
        check_logits(expected, expected * torch.nan, low_precision=low_precision, what="it")


def test_padding_is_not_compared(make_model):
    model = make_model("llama").float()
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [5, 6, 7, 8]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1] * 4]),
    }
    logits = logits_of(model, batch)
    assert logits.shape == (7, model.config.vocab_size)
    assert torch.equal(logits, model(**batch).logits.double()[[0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 0, 1, 2, 3]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_are_certified(dtype, exported, batch):
    adapted, folder = exported(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        certificate = verify(adapted, "default", folder, batch, merged=True)
    assert certificate.max_logit_difference_reloaded < (1e-5 if dtype == torch.float32 else 2e-2)
    assert certificate.rms_logit_difference_reloaded < (1e-6 if dtype == torch.float32 else 1e-3)
    assert certificate.rms_logit_difference_merged < (1e-6 if dtype == torch.float32 else 1e-3)
    assert certificate.rms_logit_change > 2e-3


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails, exported, batch):
    adapted, folder = exported()
    if fails:
        edit_weights(folder, lambda weights: weights.popitem())
    adapted.bert.encoder.eval()
    state = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    flags = [(name, p.requires_grad) for name, p in adapted.named_parameters()]
    modules = [(name, module.training, len(module._forward_hooks)) for name, module in adapted.named_modules()]
    random_state = torch.get_rng_state()
    try:
        verify(adapted, "default", folder, batch, merged=True)
    except VerificationError:
        assert fails
    else:
        assert not fails
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [(name, p.requires_grad) for name, p in adapted.named_parameters()] == flags
    assert [(n, module.training, len(module._forward_hooks)) for n, module in adapted.named_modules()] == modules
    assert adapted.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in adapted.state_dict().items())
    assert list(adapted.peft_config) == ["default"]
    assert adapted.active_adapter == "default"
    detach(adapted)


LAYER = "bert.encoder.layer.0.attention.self.value"  # rank 2
WEIGHT = f"base_model.model.{LAYER}.lora_B.weight"


def test_other_weights_are_named(exported, batch):
    adapted, folder = exported()
    edit_weights(folder, lambda weights: weights[WEIGHT].mul_(1 + 1e-9))
    with pytest.raises(VerificationError, match=f"layer '{LAYER}' has other weights after reloading"):
        verify(adapted, "default", folder, batch, merged=False)


def test_a_forgotten_scaling_is_noticed(exported, batch):
    adapted, folder = exported()
    edit_config(folder, alpha_pattern={}, lora_alpha=3)
    with pytest.raises(VerificationError, match="has other weights after reloading"):
        verify(adapted, "default", folder, batch, merged=False)


def test_another_set_of_modules_is_named(exported, batch):
    adapted, folder = exported()

    def remove(weights):
        for name in [name for name in weights if LAYER in name]:
            del weights[name]

    edit_weights(folder, remove)
    targets = json.loads((folder / "adapter_config.json").read_text())["target_modules"]
    edit_config(folder, target_modules=[name for name in targets if name != LAYER])
    with pytest.raises(VerificationError, match=rf"misses modules \['{LAYER}'\] and adds modules \[\]"):
        verify(adapted, "default", folder, batch, merged=False)


def test_weights_without_a_place_are_named(exported, batch):
    adapted, folder = exported()
    edit_weights(folder, lambda weights: weights.update({"base_model.model.stray.lora_A.weight": torch.ones(1, 1)}))
    with pytest.raises(VerificationError, match=r"holds weights without a place: .*stray"):
        verify(adapted, "default", folder, batch, merged=False)


def test_another_rank_is_noticed(exported, batch):
    adapted, folder = exported()
    layer = next(layer for layer in adapted_layers(adapted, "default") if layer.name == LAYER)
    shrink(layer, torch.tensor([0]), None)
    with pytest.raises(VerificationError, match=f"layer '{LAYER}' has rank 1, but 2 after reloading"):
        verify(adapted, "default", folder, batch, merged=False)


def test_a_folder_that_peft_cannot_load_is_named(exported, batch):
    adapted, folder = exported()
    edit_config(folder, rank_pattern={})
    with pytest.raises(VerificationError, match=rf"PEFT cannot load {folder}: [\s\S]*size mismatch"):
        verify(adapted, "default", folder, batch, merged=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_head_is_named(dtype, exported, batch):
    adapted, folder = exported(dtype)
    edit_weights(folder, lambda weights: weights["base_model.model.classifier.bias"].add_(1))
    with pytest.raises(VerificationError, match=r"head weight 'classifier.bias' is another after reloading"):
        verify(adapted, "default", folder, batch, merged=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("merged", [False, True])
def test_other_logits_are_noticed(dtype, merged, exported, batch):
    """PEFT's own forward, or its merge, is at fault."""
    adapted, folder = exported(dtype)

    def wrong(module, _, logits):
        is_merged = any(layer.module._forward_hooks for layer in adapted_layers(adapted, "reloaded"))
        return logits + 1 if "reloaded" in adapted.peft_config and is_merged == merged else logits

    handle = wrapped_heads(adapted)["classifier"].register_forward_hook(wrong)
    what = "merged in" if merged else "reloaded from .*"
    with (
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16),
        pytest.raises(VerificationError, match=rf"{what} gives other logits: off by 1(\.\d+)? in root mean square"),
    ):
        verify(adapted, "default", folder, batch, merged=True)
    handle.remove()


def test_an_adapter_that_does_nothing_is_certified_to_do_nothing(exported, batch):
    """It is compared all the same."""
    adapted, folder = exported()
    with torch.no_grad():
        for layer in adapted_layers(adapted, "default"):
            layer.B.zero_()
    with pytest.raises(VerificationError, match="has other weights after reloading"):
        verify(adapted, "default", folder, batch, merged=False)
    export(adapted, "default", folder, "some/base")
    certificate = verify(adapted, "default", folder, batch, merged=False)
    assert (certificate.max_logit_change, certificate.rms_logit_change) == (0.0, 0.0)


def test_logits_that_are_no_numbers_do_not_pass(exported, batch):
    adapted, folder = exported()
    with torch.no_grad():
        adapted_layers(adapted, "default")[1].A.fill_(torch.nan)
    export(adapted, "default", folder, "some/base")
    with pytest.raises(VerificationError, match="other weights after reloading"):
        verify(adapted, "default", folder, batch, merged=False)
