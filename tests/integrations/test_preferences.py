"""The callback in TRL's `DPOTrainer`, whose reference is the same model without its adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from prunedlora import PrunedLoraCallback, PruningConfig
from prunedlora.integrations.saved_adapter import ADAPTER_FOLDER
from prunedlora.integrations.trainer_checks import CallbackError
from tests.tiny import WORDS, make_decoder

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_decoder(tmp_path_factory.mktemp("dpo") / "model")


def turn(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def dpo_trainer(
    model: Path, output: Path, pruning: dict[str, Any] | None = None, **arguments: Any
) -> tuple[DPOTrainer, PrunedLoraCallback]:
    rows = [
        {
            "prompt": turn("user", f"{word} {n}"),
            "chosen": turn("assistant", word),
            "rejected": turn("assistant", WORDS[(index + 3) % 8]),
        }
        for n in range(4)
        for index, word in enumerate(WORDS)
    ]
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token, tokenizer.chat_template = tokenizer.eos_token, TEMPLATE
    fields: dict[str, Any] = {
        "max_steps": 8, "per_device_train_batch_size": 4, "learning_rate": 2e-2, "lr_scheduler_type": "constant",
        "report_to": [], "use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True,
        "optim": "adamw_torch", "logging_steps": 1,
    }  # fmt: skip
    schedule = {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2}
    settings = {"target_rank": 2, "allocation": "global", "min_rank": 0, "schedule": schedule} | (pruning or {})
    callback = PrunedLoraCallback(PruningConfig(**settings))
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=DPOConfig(str(output), **(fields | arguments)),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:4]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[callback],
    )
    return trainer, callback


def test_preference_rows_leave_a_plain_adapter_and_the_reference_pass_is_not_observed(
    folder: Path, tmp_path: Path
) -> None:
    """With the reference's pass in every step, and an evaluation between them, the components go that go where the
    reference was computed before training began: neither counts as a step of the adapter."""
    trained, callback = dpo_trainer(folder, tmp_path / "live", eval_strategy="steps", eval_steps=3)
    trained.train()
    before, precomputed = dpo_trainer(folder, tmp_path / "before", precompute_ref_log_probs=True)
    before.train()
    assert len(callback.events) > 1
    assert [event.removed for event in callback.events] == [event.removed for event in precomputed.events]
    losses = [[entry["loss"] for entry in each.state.log_history if "loss" in entry] for each in (trained, before)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)

    ranks = callback.pruner.ranks
    assert sum(ranks.values()) == 2 * len(ranks)
    saved = load_file(tmp_path / "live" / ADAPTER_FOLDER / "adapter_model.safetensors")
    assert {name: len(factor) for name, factor in saved.items() if "lora_A" in name} == {
        f"base_model.model.{name}.lora_A.weight": rank for name, rank in ranks.items() if rank
    }
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "live" / ADAPTER_FOLDER)
    ids = {"input_ids": torch.arange(5, 25)[None]}
    with torch.no_grad():
        adapted, again = trained.model.eval()(**ids).logits, loaded.eval()(**ids).logits
        base = AutoModelForCausalLM.from_pretrained(folder)(**ids).logits
    torch.testing.assert_close(again, adapted, rtol=0, atol=1e-6)
    assert (adapted - base).abs().max() > 1e-2


def test_a_cap_of_gradients_is_refused_where_no_mean_over_targets_is_trained(folder: Path, tmp_path: Path) -> None:
    trainer, _ = dpo_trainer(folder, tmp_path, {"gradient_cap": 0.1}, max_grad_norm=0.0)
    with pytest.raises(CallbackError, match=r"gradient_cap .* DPOConfig's loss is none: leave gradient_cap unset"):
        trainer.train()
