"""GGUF adapters as files: names, order of rows, types of numbers, and what has no place there. What llama.cpp makes of
them is in test_gguf_served.py."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, PretrainedConfig
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

from prunedlora.adapters.gguf_adapter import GgufError, read_back_gguf, write_gguf
from prunedlora.adapters.repack import store_as
from tests.gguf_models import export_tiny_adapter, tiny_config, tiny_language_model

Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported adapter of ranks 3, 1, 2, 4 in turn; q, v and down of the first block are absent."""
    folder = tmp_path_factory.mktemp("llama")
    targets = ["q_proj", "k_proj", "v_proj", "down_proj"]
    export_tiny_adapter(tiny_language_model("llama"), folder, [0, 1, 0, 0, 3, 2, 4, 4], targets)
    return folder


def copy(folder: Path, to: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> Path:
    """The exported folder with its configuration and tensors changed."""
    config = json.loads((folder / "adapter_config.json").read_text())
    state = load_file(folder / "adapter_model.safetensors")
    change(config, state)
    to.mkdir()
    (to / "adapter_config.json").write_text(json.dumps(config))
    save_file(state, to / "adapter_model.safetensors")
    return to


def _more(_: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    for tensor in state.values():
        tensor.mul_(1.01)


def _fewer(_: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    for name in [name for name in state if "k_proj" in name]:
        del state[name]


def written(folder: Path, to: Path, base: PretrainedConfig) -> dict[str, Any]:
    write_gguf(folder, to, base)
    return {tensor.name: tensor for tensor in gguf.GGUFReader(to).tensors}


def test_every_layer_has_its_name_and_its_rank(llama: Path, tmp_path: Path) -> None:
    tensors = written(llama, tmp_path / "a.gguf", tiny_config("llama"))
    # Sizes are told from the inside out.
    assert {name: tensor.shape.tolist() for name, tensor in tensors.items() if name.endswith("_a")} == {
        "blk.0.attn_k.weight.lora_a": [32, 1],
        "blk.1.attn_q.weight.lora_a": [32, 3],
        "blk.1.attn_k.weight.lora_a": [32, 2],
        "blk.1.attn_v.weight.lora_a": [32, 4],
        "blk.1.ffn_down.weight.lora_a": [64, 4],
    }
    assert len(tensors) == 10
    assert read_back_gguf(tmp_path / "a.gguf", llama, tiny_config("llama")) == 10


def test_rows_of_q_and_k_are_in_the_order_that_transformers_undoes(llama: Path, tmp_path: Path) -> None:
    """transformers reads base models out of GGUF files: what it makes of B is ours."""
    config = tiny_config("llama")
    tensors = written(llama, tmp_path / "a.gguf", config)
    state = load_file(llama / "adapter_model.safetensors")
    undo = LlamaTensorProcessor(config={"num_attention_heads": 4, "num_key_value_heads": 2})
    for letter in "qkv":
        name = f"blk.1.attn_{letter}.weight"
        stored = tensors[f"{name}.lora_b"].data
        read = np.array(stored) if letter == "v" else undo.process(np.array(stored), name).weights
        own = state[f"base_model.model.model.layers.1.self_attn.{letter}_proj.lora_B.weight"].numpy()
        np.testing.assert_array_equal(read, own)
        assert np.array_equal(stored, own) == (letter == "v")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_numbers_are_kept_in_their_type(dtype: str, llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path / "a", lambda *_: None)
    store_as(folder, dtype)
    tensors = written(folder, tmp_path / "a.gguf", tiny_config("llama"))
    kinds = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
    assert {tensor.tensor_type.name for tensor in tensors.values()} == {kinds[dtype]}
    assert read_back_gguf(tmp_path / "a.gguf", folder, tiny_config("llama")) == 10
    other = copy(folder, tmp_path / "b", _more)
    with pytest.raises(GgufError, match=r"has other numbers in blk\.0\.attn_k\.weight\.lora_a than the adapter in mod"):
        read_back_gguf(tmp_path / "a.gguf", other, tiny_config("llama"))


def test_the_file_says_that_nothing_is_scaled(llama: Path, tmp_path: Path) -> None:
    write_gguf(llama, tmp_path / "a.gguf", tiny_config("mistral"))
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    told = {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}
    assert told == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.0,
    }
    with pytest.raises(GgufError, match=r"says .*'llama'.* of itself, and not .*'qwen2'"):
        read_back_gguf(tmp_path / "a.gguf", llama, tiny_config("qwen2"))
    fewer = copy(llama, tmp_path / "b", _fewer)
    with pytest.raises(GgufError, match=r"tensors of other names: blk\.0\.attn_k\.weight\.lora_a, blk\.0\.attn_k"):
        read_back_gguf(tmp_path / "a.gguf", fewer, tiny_config("mistral"))


def _head(_: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    state["base_model.model.score.weight"] = torch.zeros(2, 32)


def _dora(_: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    state[Q.replace("lora_B.weight", "lora_magnitude_vector")] = torch.zeros(32)


def _other_layer(_: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    for factor, shape in (("A", (1, 32)), ("B", (32, 1))):
        state[f"base_model.model.model.vision_tower.q_proj.lora_{factor}.weight"] = torch.zeros(shape)


def _double(_: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    state.update({name: tensor.double() for name, tensor in state.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_head, r"factors of layers alone, and this one has base_model\.model\.score\.weight too"),
        (_dora, r"and this one has base_model.*q_proj\.lora_magnitude_vector too"),
        (
            _other_layer,
            r"the layer model\.vision_tower\.q_proj has no name in GGUF files of llama models: export it wi",
        ),
        (
            _double,
            r"lora_a is of type torch\.float64: store it in one of torch\.float32, torch\.bfloat16, torch\.float",
        ),
        (
            lambda config, _: config.update(task_type="SEQ_CLS"),
            "for language models, and this one's task type is SEQ_CL",
        ),
        (lambda config, _: config.update(lora_alpha=8), "the adapter's scaling is not 1"),
        (lambda config, _: config.update(use_rslora=True), "the adapter's scaling is not 1"),
        (lambda config, _: config.update(alpha_pattern={}), "the adapter's scaling is not 1"),
    ],
)
def test_what_has_no_place_in_gguf_is_named(change: Any, message: str, llama: Path, tmp_path: Path) -> None:
    folder = copy(llama, tmp_path / "a", change)
    with pytest.raises(GgufError, match=message):
        write_gguf(folder, tmp_path / "a.gguf", tiny_config("llama"))
    assert not (tmp_path / "a.gguf").exists()


def test_an_output_that_is_the_input_too_cannot_change_alone(tmp_path: Path) -> None:
    model = tiny_language_model("llama")
    export_tiny_adapter(model, tmp_path / "a", [2], ["lm_head"])
    assert set(written(tmp_path / "a", tmp_path / "a.gguf", model.config)) == {
        "output.weight.lora_a",
        "output.weight.lora_b",
    }
    model.config.tie_word_embeddings = True
    with pytest.raises(GgufError, match=r"leave lm_head out of adapter\.target_modules, or --merge"):
        write_gguf(tmp_path / "a", tmp_path / "b.gguf", model.config)


def test_a_type_that_was_not_tried_is_refused(llama: Path, tmp_path: Path) -> None:
    message = r"models of type 'bert', but for gemma2, .*: export it with --uniform, .* convert_lora_to_gguf\.py"
    with pytest.raises(GgufError, match=message):
        write_gguf(llama, tmp_path / "a.gguf", BertConfig())


def test_the_package_that_is_missing_is_named(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any, **given: Any) -> Any:
        if name == "gguf":
            raise ImportError(name)
        return whole(name, *rest, **given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(GgufError, match=r"need the package gguf: pip install 'prunedlora\[gguf\]'"):
        write_gguf(llama, tmp_path / "a.gguf", tiny_config("llama"))
