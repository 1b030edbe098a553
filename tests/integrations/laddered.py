"""Trainings of tiny models down a ladder under a `transformers.Trainer`."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from prunedlora import PrunedLoraCallback, PruningConfig

NUM_STEPS = 14
SIZES = [220, 100, 60]
BORDERS = [6, 9, 11, 14]
"""Where trunk and rungs of LADDER end, in NUM_STEPS steps."""
LADDER = {"name": "ladder", "rungs": {"parameters": SIZES}, "trunk": 0.43, "rate": "restart"}
PRUNING = {"allocation": "global_per_parameter", "min_rank": 0}
IDS = torch.arange(5, 25)[None]


def base(kind: Any = LlamaForCausalLM) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        return kind(LlamaConfig(vocab_size=60, pad_token_id=0, **sizes))


def adapted(kind: Any = LlamaForCausalLM, **lora: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return get_peft_model(base(kind), LoraConfig(**({"r": 4, "target_modules": ["q_proj", "v_proj"]} | lora)))


def trainer(
    folder: Path,
    model: Any = None,
    *,
    ladder: dict[str, Any] | None = None,
    pruning: dict[str, Any] | None = None,
    optimizers: Any = (None, None),
    **arguments: Any,
) -> Trainer:
    """`ladder`, `pruning`: changes of LADDER and PRUNING."""
    model = adapted() if model is None else model
    ids = torch.randint(5, 60, (64, 12), generator=torch.Generator().manual_seed(1))
    classes = isinstance(model.get_base_model(), LlamaForSequenceClassification)
    fields = {
        "max_steps": NUM_STEPS, "per_device_train_batch_size": 4, "learning_rate": 2e-2, "report_to": [],
        "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "lr_scheduler_type": "constant",
        "weight_decay": 0.01, "optim": "adamw_torch",
    }  # fmt: skip
    schedule = {name: value for name, value in (LADDER | (ladder or {})).items() if value is not None}
    examples = [{"input_ids": row, "labels": index % 2 if classes else row} for index, row in enumerate(ids)]
    return Trainer(
        model=model,
        args=TrainingArguments(str(folder), **(fields | arguments)),
        train_dataset=examples,
        eval_dataset=examples[:4],
        callbacks=[PrunedLoraCallback(PruningConfig(**(PRUNING | {"schedule": schedule} | (pruning or {}))))],
        optimizers=optimizers,
    )


def callback_of(trained: Trainer) -> PrunedLoraCallback:
    (found,) = [each for each in trained.callback_handler.callbacks if isinstance(each, PrunedLoraCallback)]
    return found


def index_in(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "rungs" / "rungs.json").read_text())
    return found


class Look(TrainerCallback):
    """Calls `look` with step, model and optimizer, at one kind of moment (`on_evaluate`, `on_step_end`)."""

    def __init__(self, moment: str, look: Any) -> None:
        setattr(self, moment, self._call)
        self.look = look

    def _call(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(state.global_step, kwargs["model"], kwargs["optimizer"])


def watched(trained: Trainer, moment: str, look: Any) -> Trainer:
    """Looks before the callback does."""
    trained.callback_handler.callbacks.insert(0, Look(moment, look))
    return trained


def logits_of(model: Any) -> torch.Tensor:
    was = model.training
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=IDS).logits
    model.train(was)
    return logits
