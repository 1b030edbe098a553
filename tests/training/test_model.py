"""Base models whose weights are quantised: what trains whole is not, adapters of every kind go onto the rest."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prunedlora.adapters.plain import plain_layers
from prunedlora.adapters.targets import resolve_head
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import trial_with
from prunedlora.training.model import ModelError, load_base, load_without_weights
from prunedlora.trial.assemble import build_method
from prunedlora.trial.assets import load_assets
from prunedlora.trial.base_cache import model_settings
from tests.tiny import sweep_tree

CLASSIFIER = "AutoModelForSequenceClassification"


ADALORA = {"adapter.method": "adalora", "pruning": None, "adalora": {"target_rank": 3, "begin": 0.2, "end": 0.7}}


@pytest.mark.needs("cuda")
@pytest.mark.parametrize("method", [{}, ADALORA], ids=["prunedlora", "adalora"])
def test_a_base_of_four_bits_takes_adapters_and_a_head(tmp_path: Path, method: dict[str, Any]) -> None:
    import bitsandbytes

    trial = parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial
    trial = trial_with(trial, {"model.quantization": "nf4", **method})
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
