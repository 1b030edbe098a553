import copy
import json
from types import SimpleNamespace

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, PeftConfig, PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.export import AllRanksZeroError, export
from prunedlora.adapters.layers import adapted_layers, wrapped_heads
from prunedlora.adapters.shrink import shrink
from prunedlora.adapters.verify import verify


def train(adapted: nn.Module, ranks: list[int]) -> None:
    """Gives the adapter numbers as after training, the head too, and prunes the layers to `ranks` (repeated)."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in adapted_layers(adapted, "default"):
            layer.B.copy_(torch.randn(layer.B.shape, generator=generator) * 0.1)
        for head in wrapped_heads(adapted).values():
            for parameter in head.modules_to_save["default"].parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    for index, layer in enumerate(adapted_layers(adapted, "default")):
        shrink(layer, torch.arange(ranks[index % len(ranks)]), None)


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("ranks", [[4], [1, 4, 2, 3], [0, 2, 1]], ids=["equal", "unequal", "with rank 0"])
@pytest.mark.parametrize("kind", ["bert", "llama", "llama_classifier", "gpt2"])
def test_plain_peft_equals_merged_equals_training(kind, ranks, use_rslora, make_model, settings, batch, tmp_path):
    base = make_model(kind)
    untouched = copy.deepcopy(base)
    adapted = attach(base, settings(kind, use_rslora=use_rslora, dropout=0.1), "default", 0)
    train(adapted, ranks)
    expected = adapted.eval()(**batch).logits
    export(adapted, "default", tmp_path, "some/base")
    plain = PeftModel.from_pretrained(untouched, tmp_path).eval()
    torch.testing.assert_close(plain(**batch).logits, expected, rtol=0, atol=1e-10)
    reloaded = {layer.name: layer.rank for layer in adapted_layers(plain, "default")}
    assert reloaded == {layer.name: layer.rank for layer in adapted_layers(adapted, "default") if layer.rank}
    merged = plain.merge_and_unload()
    torch.testing.assert_close(merged(**batch).logits, expected, rtol=0, atol=1e-10)


def test_the_folder_names_the_revision_that_it_belongs_to(make_model, settings, tmp_path):
    """AutoPeftModel takes the base from there."""
    adapted = attach(make_model("bert"), settings("bert"), "default", 0)
    train(adapted, [2])
    for folder, revision in ((tmp_path / "a", "v1.5"), (tmp_path / "b", None)):
        export(adapted, "default", folder, "some/base", revision)
        assert PeftConfig.from_pretrained(folder).revision == revision


def test_the_folder_loads_by_name_of_the_base_model(make_model, settings, batch, tmp_path):
    base = make_model("bert")
    base.save_pretrained(tmp_path / "base")
    adapted = attach(base, settings("bert"), "default", 0)
    train(adapted, [2, 0, 1])
    expected = adapted.eval()(**batch).logits
    export(adapted, "default", tmp_path / "adapter", str(tmp_path / "base"))
    auto = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "adapter", num_labels=3, dtype=torch.float64
    ).eval()
    torch.testing.assert_close(auto(**batch).logits, expected, rtol=0, atol=1e-10)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", dtype=torch.float64)
    plain = PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
    torch.testing.assert_close(plain(**batch).logits, expected, rtol=0, atol=1e-10)


def test_a_server_that_ignores_the_patterns_gets_the_same_scaling(make_model, settings, tmp_path):
    adapted = attach(make_model("llama"), settings("llama", use_rslora=True), "default", 0)
    train(adapted, [1, 0, 3, 2])
    export(adapted, "default", tmp_path, "some/base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert config["lora_alpha"] / config["r"] == 1
    assert config["r"] == 3
    for layer in adapted_layers(adapted, "default"):
        key = f"base_model.model.{layer.name}.lora_"
        if layer.rank:
            served = weights[f"{key}B.weight"] @ weights[f"{key}A.weight"]
            torch.testing.assert_close(served, layer.scaling * layer.B @ layer.A, rtol=0, atol=1e-10)
        assert (f"{key}A.weight" in weights) == (layer.rank > 0)


@pytest.mark.parametrize(
    ("kind", "heads", "task_type"),
    [
        ("bert", ["pooler", "classifier"], "SEQ_CLS"),
        ("bert", [], None),
        ("bert", ["pooler"], None),
        ("llama_classifier", ["score"], "SEQ_CLS"),
        ("llama", [], "CAUSAL_LM"),
        ("gpt2", [], "CAUSAL_LM"),
    ],
)
def test_the_configuration_is_plain(kind, heads, task_type, make_model, settings, batch, tmp_path):
    base = make_model(kind)
    untouched = copy.deepcopy(base)
    adapted = attach(base, settings(kind, head_modules=heads, use_rslora=True, dropout=0.1), "default", 0)
    train(adapted, [2])
    export(adapted, "default", tmp_path, "some/base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["task_type"] == task_type
    assert config["base_model_name_or_path"] == "some/base"
    assert (config["use_rslora"], config["lora_dropout"], config["bias"]) == (False, 0.0, "none")
    assert (config["rank_pattern"], config["alpha_pattern"], config["exclude_modules"]) == ({}, {}, None)
    assert (config["r"], config["lora_alpha"]) == (2, 2)
    assert config["target_modules"] == sorted(layer.name for layer in adapted_layers(adapted, "default"))
    plain = PeftModel.from_pretrained(untouched, tmp_path).eval()
    torch.testing.assert_close(plain(**batch).logits, adapted.eval()(**batch).logits, rtol=0, atol=1e-10)


def test_export_is_the_same_twice_and_leaves_the_model_alone(make_model, settings, tmp_path):
    adapted = attach(make_model("bert"), settings("bert"), "default", 0)
    train(adapted, [1, 2, 0])
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    export(adapted, "default", tmp_path / "a", "some/base")
    export(adapted, "default", tmp_path / "b", "some/base")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    after = adapted.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


class Nested(nn.Module):
    """Names that are endings of one another, and one with a character of regular expressions."""

    NAMES = ("q", "enc.q", "enc.x.q", "enc.eq")

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.q = nn.Linear(4, 4)
            self.enc = nn.Module()
            self.enc.q = nn.Linear(4, 4)
            self.enc.x = nn.Module()
            self.enc.x.q = nn.Linear(4, 4)
            self.enc.eq = nn.Linear(4, 4)
        self.double()

    def forward(self, x):
        for name in self.NAMES:
            x = x + torch.tanh(self.get_submodule(name)(x))
        return SimpleNamespace(logits=x)


@pytest.mark.parametrize(
    "ranks", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 0, 3, 0), (0, 2, 0, 1), (3, 0, 0, 3), (0, 0, 2, 1), (0, 2, 3, 0)]
)
def test_names_that_are_endings_of_one_another(ranks, tmp_path):
    adapted = attach(Nested(), AdapterSettings(4, 2.0, False, 0.0, "all-linear", []), "default", 0)
    train(adapted, list(ranks))
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    export(adapted, "default", tmp_path, "some/base")
    plain = PeftModel.from_pretrained(Nested(), tmp_path)
    found = {layer.name: layer.rank for layer in adapted_layers(plain, "default")}
    assert found == {name: rank for name, rank in zip(Nested.NAMES, ranks, strict=True) if rank}
    torch.testing.assert_close(plain(x).logits, adapted(x).logits, rtol=0, atol=1e-10)


class Deep(nn.Module):
    """More layers than PEFT lists: from 20 on it condenses target_modules to endings."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.blocks = nn.ModuleList(
                nn.ModuleDict({"q": nn.Linear(4, 4), "inner": nn.ModuleDict({"q": nn.Linear(4, 4)})}) for _ in range(12)
            )
        self.double()

    def forward(self, x):
        for block in self.blocks:
            x = x + block["q"](torch.tanh(block["inner"]["q"](x)))
        return SimpleNamespace(logits=x)


@pytest.mark.parametrize("ranks", [[1, 2], [0, 1, 2], [3, 0], [0, 1, 1, 1, 2]])
def test_many_layers(ranks, tmp_path):
    adapted = attach(Deep(), AdapterSettings(4, 2.0, False, 0.0, "all-linear", []), "default", 0)
    train(adapted, ranks)
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    export(adapted, "default", tmp_path, "some/base")
    plain = PeftModel.from_pretrained(Deep(), tmp_path)
    found = {layer.name: layer.rank for layer in adapted_layers(plain, "default")}
    assert found == {layer.name: layer.rank for layer in adapted_layers(adapted, "default") if layer.rank}
    torch.testing.assert_close(plain(x).logits, adapted(x).logits, rtol=0, atol=1e-10)
    assert verify(adapted, "default", tmp_path, {"x": x}, merged=True).max_logit_difference_merged < 1e-10


def test_an_adapter_without_components_is_refused(make_model, settings, tmp_path):
    adapted = attach(make_model("llama"), settings("llama"), "default", 0)
    train(adapted, [0])
    with pytest.raises(AllRanksZeroError, match="all 14 layers of adapter 'default' have rank 0; nothing to export"):
        export(adapted, "default", tmp_path / "none", "some/base")
    assert not (tmp_path / "none").exists()
