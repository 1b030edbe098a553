"""Where neither Ray nor Optuna is installed: results are read, adapters are handed over and measured, the callback
trains. Only a sweep needs them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
PRUNEDLORA = str(Path(sys.executable).with_name("prunedlora"))
TRAIN = """
import sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from prunedlora import PrunedLoraCallback, PruningConfig

def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    ))

ids = torch.arange(1, 11)
schedule = {"name": "cubic", "begin": 0.2, "end": 0.6, "every_steps": 2}
trainer = Trainer(
    model=get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])),
    args=TrainingArguments(
        output_dir=sys.argv[1], max_steps=10, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True
    ),
    train_dataset=[{"input_ids": ids, "labels": ids}] * 8,
)
trainer.add_callback(PrunedLoraCallback(PruningConfig(target_rank=2, schedule=schedule)))
trainer.train()
plain = PeftModel.from_pretrained(llama(), f"{sys.argv[1]}/pruned_adapter")
print("ranks", {len(tensor) for name, tensor in plain.named_parameters() if "lora_A" in name})
assert not {"ray", "optuna"} & sys.modules.keys()
"""


def test_they_are_not_there(run_without: Run) -> None:
    code = "from importlib.util import find_spec; print(find_spec('ray'), find_spec('optuna'), find_spec('json').name)"
    assert run_without(sys.executable, "-c", code).stdout == "None None json\n"
    for name in ("ray", "ray.exceptions", "optuna.samplers"):
        error = run_without(sys.executable, "-c", f"import {name}", code=1).stderr
        assert f"ModuleNotFoundError: No module named '{name.partition('.')[0]}'" in error


READING = {
    "report": "Recommended: ",
    "recommend --within 2pt --confidence 0.9": "Recommended: ",
    "compare --by adapter.method": "at matched adapter_params",
    "serving --max-loras 8 --max-lora-rank 16": "On a server of 8 slots of rank 16",
    "latency --front --batch-size 2 --num-tokens 8 --repeat 2": "Median of 2: 2 × 8 tokens",
}


# Each starts a Python and reads the store: the plain suite does with the page and with what loads a model.
IN_THE_GATE = [name for name in READING if name.split()[0] not in ("report", "latency")]


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] if name in IN_THE_GATE else []) for name in READING]
)
def test_a_store_is_read(command: str, run_without: Run, old_sweep: tuple[Path, Path]) -> None:
    verb, *options = command.split()
    output = run_without(PRUNEDLORA, verb, str(old_sweep[1]), *options).stdout
    assert READING[command] in " ".join(output.split())


def last_candidate(store: Path) -> str:
    record = json.loads(sorted(store.glob("trials/*/record.json"))[-1].read_text())
    return f"{record['key']}@{record['candidates'][-1]['step']}"


@pytest.mark.parametrize("form", [[], pytest.param(["--merge"], marks=pytest.mark.slow)], ids=["adapter", "merged"])
def test_an_adapter_is_exported(
    form: list[str], run_without: Run, old_sweep: tuple[Path, Path], tmp_path: Path
) -> None:
    store, to = old_sweep[1], tmp_path / "to"
    output = run_without(PRUNEDLORA, "export", str(store), last_candidate(store), "--to", str(to), *form).stdout
    assert "max_logit_difference_merged" in output
    assert (to / ("model.safetensors" if form else "adapter_model.safetensors")).is_file()


@pytest.mark.slow
def test_the_harness_says_what_it_needs(run_without: Run, old_sweep: tuple[Path, Path]) -> None:
    """Everything is imported on the way to what is wrong: this store's models are classifiers."""
    store = old_sweep[1]
    done = run_without(PRUNEDLORA, "harness", str(store), last_candidate(store), "--task", "arc_easy", code=2)
    assert "needs a causal language model" in done.stderr


def test_the_callback_trains(run_without: Run, tmp_path: Path) -> None:
    assert "ranks {2}" in run_without(sys.executable, "-c", TRAIN, str(tmp_path / "output")).stdout
