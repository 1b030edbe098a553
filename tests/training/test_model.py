"""Base models whose weights are quantised: what trains whole is not, adapters of every kind go onto the rest."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from prunedlora.adapters.plain import plain_layers
from prunedlora.adapters.targets import resolve_head
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import trial_with
from prunedlora.training.model import (
    ModelError,
    compute_dtype,
    load_base,
    load_without_weights,
    quantization_config,
)
from prunedlora.trial.assemble import build_method
from prunedlora.trial.assets import load_assets
from prunedlora.trial.base_cache import model_settings
from tests.tiny import sweep_tree

CLASSIFIER = "AutoModelForSequenceClassification"


ADALORA = {"adapter.method": "adalora", "pruning": None, "adalora": {"target_rank": 3, "begin": 0.2, "end": 0.7}}


@pytest.mark.needs("cuda")
@pytest.mark.parametrize("method", [{}, ADALORA], ids=["prunedlora", "adalora"])
@pytest.mark.parametrize(
    "weights",
    [{"model.quantization": "nf4"}, {"model.quantization": "nf4", "model.double_quantization": True}],
    ids=["nf4", "double"],
)
def test_a_base_of_four_bits_takes_adapters_and_a_head(
    tmp_path: Path, weights: dict[str, Any], method: dict[str, Any]
) -> None:
    import bitsandbytes

    trial = parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial
    trial = trial_with(trial, weights | method)
    settings = model_settings(trial)
    empty = load_without_weights(settings, CLASSIFIER, {"num_labels": 2})
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    heads = resolve_head(empty, trial.head_modules)
    base = load_base(settings, CLASSIFIER, {"num_labels": 2}, torch.device("cpu"), heads)
    quantised = {name for name, module in base.model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    linear = {name for name, module in empty.named_modules() if isinstance(module, nn.Linear)}
    assert quantised == {name for name in linear if not any(name.startswith(head) for head in heads)}

    model = build_method(trial, 12).attach(base.model, "default")
    model.train()
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([1])).loss.backward()
    trained = [parameter for name, parameter in model.named_parameters() if "modules_to_save" in name]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)
    assert {layer.name for layer in plain_layers(model, "default")} == quantised


def test_four_bits_without_a_gpu_are_refused(tmp_path: Path) -> None:
    trial = parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial
    with pytest.raises(ModelError, match=r"model.quantization 'nf4' needs CUDA; this worker has cpu"):
        load_assets(trial_with(trial, {"model.quantization": "nf4"}), torch.device("cpu"))


@pytest.mark.needs("cuda")
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"quantization": "nf4"}, (True, False, "nf4", False)),
        ({"quantization": "nf4", "double_quantization": True}, (True, False, "nf4", True)),
        ({"quantization": "int8"}, (False, True, "fp4", False)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_bitsandbytes_is_told(
    tmp_path: Path, weights: dict[str, Any], expected: tuple[Any, ...], dtype: torch.dtype
) -> None:
    trial = parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial
    trial = trial_with(trial, {f"model.{name}": value for name, value in weights.items()})
    told = quantization_config(model_settings(trial), dtype, ["classifier"])
    asked = (told.load_in_4bit, told.load_in_8bit, told.bnb_4bit_quant_type, told.bnb_4bit_use_double_quant)
    assert asked == expected
    assert told.llm_int8_skip_modules == ["classifier"]
    if told.load_in_4bit:
        assert told.bnb_4bit_compute_dtype == dtype


def test_attention_is_computed_as_asked(tmp_path: Path) -> None:
    trial = parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial
    for asked in ("eager", "sdpa"):
        settings = model_settings(trial_with(trial, {"model.attn_implementation": asked}))
        base = load_base(settings, CLASSIFIER, {"num_labels": 2}, torch.device("cpu"))
        assert base.model.config._attn_implementation == asked
    settings = model_settings(trial_with(trial, {"model.attn_implementation": "none such"}))
    with pytest.raises(ModelError, match=r"cannot load model .*none such"):
        load_base(settings, CLASSIFIER, {"num_labels": 2}, torch.device("cpu"))


def test_on_a_gpu_no_copy_is_made_on_the_cpu_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_with(parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial, {"model.dtype": "bfloat16"})
    asked: dict[str, Any] = {}

    def from_pretrained(_: str, **options: Any) -> None:
        asked.update(options)
        raise OSError("that is all")

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", from_pretrained)
    for device in (torch.device("cuda"), torch.device("cpu")):
        asked.clear()
        with pytest.raises(ModelError, match=r"that is all"):
            load_base(model_settings(trial), CLASSIFIER, {"num_labels": 2}, device)
        assert asked.get("device_map") == ({"": device} if device.type == "cuda" else None)


def test_auto_is_no_guess_on_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A T4 or V100, whose emulation torch counts unless told otherwise."""
    has: dict[bool, bool] = {True: True, False: True}
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has[including_emulation])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [compute_dtype("auto", device) for device in (gpu, cpu)] == [torch.bfloat16, torch.float32]
    has[False] = False
    message = r"'auto' is bfloat16 on a GPU, and Tesla T4 has none but in software, slowly; set model.dtype: float16"
    with pytest.raises(ModelError, match=message):
        compute_dtype("auto", gpu)
    for name, dtype in {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}.items():
        assert compute_dtype(name, gpu) == compute_dtype(name, cpu) == dtype
