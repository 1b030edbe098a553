"""What an adapter's file holds besides its factors: the base model serves other trials, and stays what it was."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from prunedlora.adapters.attach import attach, detach, left_out
from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from tests.adapters.conftest import LLAMA
from tests.adapters.test_attach import assert_same, snapshot
from tests.adapters.test_existing import made_elsewhere, on, refusal

WEIGHTS = "adapter_model.safetensors"


def llama(tied: bool = False) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=tied)).eval()


def saved_with_embeddings(folder: Path, model: Any, added: float = 0.0) -> None:
    """As PEFT saves an adapter whose base has been given another vocabulary, or where it is asked to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
        with torch.no_grad():
            model.model.embed_tokens.weight.add_(added)
        adapted.save_pretrained(folder, save_embedding_layers=True)


def base_tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in load_file(folder / WEIGHTS).items() if ".lora_" not in name}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bases_own_weights_beside_an_adapted_output_layer_are_dropped(
    tied: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    made_elsewhere(llama(tied).to(dtype), tmp_path, LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
    assert any("base_layer" in name for name in base_tensors(tmp_path))
    base = llama(tied)
    before = snapshot(base)
    ours = attach(base, on(tmp_path), "default", 0)
    weights = before["weights"]
    assert isinstance(weights, dict)
    assert torch.equal(base.lm_head.base_layer.weight, weights["lm_head.weight"])
    assert {layer.name for layer in adapted_layers(ours, "default")} >= {"lm_head"}
    detach(ours)
    assert_same(before, snapshot(base))
    detach(attach(llama(tied).to("meta"), on(tmp_path), "default", 0))


@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_the_base_does_not_have_are_refused_by_name(tied: bool, tmp_path: Path) -> None:
    saved_with_embeddings(tmp_path / "same", llama(tied))
    base = llama(tied)
    before = snapshot(base)
    detach(attach(base, on(tmp_path / "same"), "default", 0))
    assert_same(before, snapshot(base))

    saved_with_embeddings(tmp_path / "moved", llama(tied), 1.0)
    said = refusal(base, on(tmp_path / "moved"))
    name = "lm_head" if tied else "model.embed_tokens"
    assert f"has weights of its own for {name!r}, (50, 16) torch.float32, which are not those of the base" in said
    resized = llama(tied)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resized.resize_token_embeddings(53)
    saved_with_embeddings(tmp_path / "resized", resized)
    for model in (base, llama(tied).to("meta")):
        said = refusal(model, on(tmp_path / "resized"))
        assert "(53, 16) torch.float32, which are not those of the base model, (50, 16)" in said
        assert "save that base model whole and name it in model.name" in said


def test_a_coarser_base_than_the_adapters(tmp_path: Path) -> None:
    saved_with_embeddings(tmp_path, llama())
    base = llama().bfloat16()
    before = snapshot(base)
    detach(attach(base, on(tmp_path), "default", 0))
    assert_same(before, snapshot(base))


def test_what_is_of_nothing_in_the_model_is_refused(tmp_path: Path) -> None:
    saved_with_embeddings(tmp_path, llama())
    weights = load_file(tmp_path / WEIGHTS)
    save_file(weights | {"base_model.model.vision.weight": torch.ones(2)}, tmp_path / WEIGHTS)
    assert "has weights for 'vision', which the base model lacks" in refusal(llama(), on(tmp_path))


def test_an_adapter_that_is_converted_leaves_the_base_too(tmp_path: Path) -> None:
    made_elsewhere(llama(), tmp_path, LoHaConfig(r=2, alpha=2, target_modules=["q_proj"]))
    name, weights = "base_model.model.model.embed_tokens.weight", load_file(tmp_path / WEIGHTS)
    base = llama()
    before = snapshot(base)
    save_file(weights | {name: base.model.embed_tokens.weight.detach().bfloat16()}, tmp_path / WEIGHTS)
    detach(attach(base, on(tmp_path, convert_rank=4), "default", 0))
    assert_same(before, snapshot(base))
    save_file(weights | {name: torch.ones(50, 16)}, tmp_path / WEIGHTS)
    assert "has weights of its own for 'model.embed_tokens'" in refusal(base, on(tmp_path, convert_rank=4))
    key = next(key for key in weights if "hada_w1_a" in key)
    save_file({each: tensor for each, tensor in weights.items() if each != key}, tmp_path / WEIGHTS)
    assert "has no weights for 'model.layers." in refusal(base, on(tmp_path, convert_rank=4))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PROMPT_TUNING"),
        (PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PREFIX_TUNING"),
    ],
)
def test_prompts_are_refused_by_name(config: Any, kind: str, tmp_path: Path) -> None:
    made_elsewhere(llama(), tmp_path, config)
    assert f"({kind}) changes no weights of layers" in refusal(llama(), on(tmp_path, convert_rank=2))


def test_a_module_that_peft_fails_on_leaves_the_base_as_it_was(
    make_model: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    made_elsewhere(make_model("llama"), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    path = tmp_path / "adapter_config.json"
    path.write_text(path.read_text().replace('"q_proj"', '"q_proj", "input_layernorm"'))
    assert "does not fit the base model: Target module" in refusal(make_model("llama"), on(tmp_path))


def zero_b(folder: Path, part: str) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file(
        {key: tensor * (part not in key or "lora_B" not in key) for key, tensor in weights.items()}, folder / WEIGHTS
    )


def test_layers_that_the_task_does_not_reach_are_left_out_while_they_do_nothing(
    batch: dict[str, Tensor], tmp_path: Path
) -> None:
    made_elsewhere(llama(), tmp_path, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    reached = {f"model.layers.{block}.self_attn.{name}_proj" for block in (0, 1) for name in "qk"}
    said = refusal(llama(), on(tmp_path, reached=reached))
    assert "adapts 'model.layers.0.self_attn.v_proj', which gets no gradient" in said
    assert "Take its factors out of the file and its name out of target_modules, or merge" in said
    assert refusal(llama().to("meta"), on(tmp_path, reached=reached)) == said
    zero_b(tmp_path, "v_proj")
    base = llama()
    before = snapshot(base)
    with torch.no_grad():
        expected = attach(base, on(tmp_path), "default", 0).eval()
        logits = expected(**batch).logits
        detach(expected)
        ours = attach(base, on(tmp_path, reached=reached), "default", 0).eval()
        assert torch.equal(ours(**batch).logits, logits)
    assert [layer.name for layer in adapted_layers(ours, "default")] == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
    ]
    assert left_out(ours) == ("model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj")
    assert not any("v_proj.lora" in name for name, _ in ours.named_parameters())
    export(ours, "default", tmp_path / "exported", "base")
    assert not any("v_proj" in key for key in load_file(tmp_path / "exported" / WEIGHTS))
    detach(ours)
    assert_same(before, snapshot(base))
    zero_b(tmp_path, "q_proj")
    assert "the task reaches none of its 4 layers" in refusal(base, on(tmp_path, reached=set()))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(number: float, tmp_path: Path) -> None:
    made_elsewhere(llama(), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    weights = load_file(tmp_path / WEIGHTS)
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    weights[key][0, 1] = number
    save_file(weights, tmp_path / WEIGHTS)
    assert f"has numbers that are not finite (NaN or infinite) in {key!r}" in refusal(llama(), on(tmp_path))


def test_a_file_with_other_names_than_pefts(tmp_path: Path) -> None:
    made_elsewhere(llama(), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    weights = load_file(tmp_path / WEIGHTS)
    save_file({key.removeprefix("base_model.model."): tensor for key, tensor in weights.items()}, tmp_path / WEIGHTS)
    assert "the first tensor of its file is 'model.layers.0.self_attn.q_proj.lora_A.weight'" in refusal(
        llama(), on(tmp_path)
    )


def test_a_bin_with_code_or_without_names(tmp_path: Path) -> None:
    made_elsewhere(llama(), tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    (tmp_path / WEIGHTS).unlink()
    torch.save({"code": Path}, tmp_path / "adapter_model.bin")
    said = refusal(llama(), on(tmp_path))
    assert "the file holds other objects than tensors, whose loading may run code" in said
    assert "weights_only" not in said
    for other in ([torch.ones(1)], {"a": 1}, {"a": [torch.ones(1)]}):
        torch.save(other, tmp_path / "adapter_model.bin")
        assert "its weights cannot be read: " in refusal(llama(), on(tmp_path))
