"""Gradient checkpointing as a switch on a model that is there."""

from pathlib import Path

import pytest
import torch
from torch import nn

from prunedlora.config.load import parse_sweep
from prunedlora.training.gradient_checkpointing import can_checkpoint, set_gradient_checkpointing
from prunedlora.training.model import ModelError, load_base
from prunedlora.trial.assemble import build_method
from prunedlora.trial.base_cache import model_settings
from tests.tiny import sweep_tree

CLASSIFIER = "AutoModelForSequenceClassification"


def test_gradient_checkpointing_is_a_switch(tmp_path: Path) -> None:
    trial = parse_sweep(sweep_tree(tmp_path, "unused"), "test").trial
    model = load_base(model_settings(trial), CLASSIFIER, {"num_labels": 2}, torch.device("cpu")).model
    adapted = build_method(trial, 12).attach(model, "default")
    for on in (True, True, False, False, True):
        set_gradient_checkpointing(adapted, on)
        assert {m.gradient_checkpointing for m in model.modules() if hasattr(m, "gradient_checkpointing")} == {on}
    assert can_checkpoint(adapted)
    assert can_checkpoint(model)
    plain = nn.Linear(2, 2)
    assert not can_checkpoint(plain)
    set_gradient_checkpointing(plain, False)
    with pytest.raises(ModelError, match=r"gradient_checkpointing: Linear has no gradient checkpointing; set it to f"):
        set_gradient_checkpointing(plain, True)
