"""What of a Trainer and a ladder do not go together, said before the first step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from prunedlora.integrations.trainer_checks import CallbackError
from tests.integrations.laddered import adapted, index_in, trainer

BOTH_WAYS = "set lr_scheduler_type='constant', or give the ladder rate 'continue'"


@pytest.mark.parametrize(
    ("ladder", "arguments", "message"),
    [
        ({"rate": "branch"}, {}, "rate 'branch' goes back to where each branch began, which a Trainer cannot: give"),
        ({"trunk": 0.0}, {}, "a ladder with trunk 0 makes a candidate before the first step, which a Trainer does not"),
        ({"rate": None}, {"lr_scheduler_type": "linear"}, rf"\(LambdaLR, lr_scheduler_type 'linear'\): {BOTH_WAYS}"),
        ({}, {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}, BOTH_WAYS),
        ({}, {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps"}, BOTH_WAYS),
        ({}, {"warmup_steps": 3}, r"a warm-up of 3 steps .* has no effect on a constant schedule: remove it"),
        ({}, {"max_steps": 3}, "rung 2 of the ladder lacks a step in a training of 3 steps"),
        (
            {"rungs": {"parameters": [10**6]}},
            {},
            r"rung 1 .*parameters 1000000.* removes nothing: the adapter has 256 parameters; take less",
        ),
        (
            {"rungs": {"parameters": [200, 20]}},
            {},
            r"rung 2 .*parameters 20.* is below .* take at least parameters 32",
        ),
    ],
    ids=str,
)
def test_what_does_not_go_with_a_ladder_is_refused_before_training(
    ladder: dict[str, Any], arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused = trainer(tmp_path, ladder=ladder, **arguments)
    with pytest.raises(CallbackError, match=message):
        refused.train()
    assert refused.state.global_step == 0
    assert not (tmp_path / "rungs").exists()


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_rate_that_is_continued_goes_with_any_schedule(kind: str, tmp_path: Path) -> None:
    trainer(tmp_path, ladder={"rate": "continue"}, lr_scheduler_type=kind, warmup_steps=2).train()
    assert len(index_in(tmp_path)) == 4


def test_a_constant_schedule_of_one_s_own_will_do(tmp_path: Path) -> None:
    model = adapted()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    trainer(tmp_path, model, optimizers=(optimizer, LambdaLR(optimizer, lambda _: 1.0))).train()
    assert len(index_in(tmp_path)) == 4
