"""The learning rate that the callback makes: that of a schedule which the Trainer cannot have by itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaForSequenceClassification

from prunedlora.config.methods import PruningConfig, section_fields
from prunedlora.training.course import Course
from tests.integrations.laddered import BORDERS, LADDER, NUM_STEPS, PRUNING, adapted, trainer, watched

NEW = {"rate": "continue", "optimizer_state": "new"}


def course() -> Course:
    ladder = section_fields(PruningConfig(**PRUNING, schedule=LADDER | RUNG_RATE))["ladder"]
    return Course(NUM_STEPS, ladder.warmup, "linear", ladder)


RUNG_RATE = {"rung_rate": 0.7, "warmup": 0.4}


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_restarted_rate_is_that_of_a_schedule(kind: Any, tmp_path: Path) -> None:
    """Of factors and head, by an optimizer with decoupled weight decay and one without."""
    ends = []
    for ladder, rate in ((RUNG_RATE, lambda _: 1.0), (NEW, lambda step: course().rate(min(step, NUM_STEPS - 1)))):
        model = adapted(LlamaForSequenceClassification, task_type="SEQ_CLS").double()
        optimizer = kind([p for p in model.parameters() if p.requires_grad], lr=0.02, weight_decay=0.1)
        trained = trainer(
            tmp_path, model, ladder=ladder, pruning={"basis": "svd"}, optimizers=(optimizer, LambdaLR(optimizer, rate))
        )
        trained.train()
        ends.append([parameter for parameter in trained.model.parameters() if parameter.requires_grad])
    assert len(ends[0]) > 2
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("state", ["new", "kept"])
def test_the_optimizer_s_state_at_a_rung(state: str, tmp_path: Path) -> None:
    counts: dict[int, set[int]] = {}

    def look(step: int, _: Any, optimizer: Any) -> None:
        counts[step] = {int(entry["step"]) for entry in optimizer.state.values()}

    model = adapted(LlamaForSequenceClassification, task_type="SEQ_CLS")
    trained = watched(trainer(tmp_path, model, ladder={"optimizer_state": state}), "on_step_end", look)
    trained.train()
    begins = [0, *BORDERS[:-1]] if state == "new" else [0]
    assert counts == {step: {step - max(b for b in begins if b < step)} for step in range(1, NUM_STEPS + 1)}
