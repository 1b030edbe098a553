"""shrink: which options go together, and what it needs, before anything is read. What they make is in sweep/."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from prunedlora.cli import app
from tests.cli.test_sweep_verbs import run_without
from tests.tiny import make_decoder

REFUSED = {
    "steps without data": (["--steps", "0"], "--steps has no effect without --data"),
    "others without data": (
        ["--metric", "loss", "--storage", "s", "--dry-run"],
        "--metric, --storage, --dry-run have no effect without --data",
    ),
    "blind options": (["--data", "d.json", "--json", "--layers"], "--layers, --json have no effect beside --data"),
    "a rate without steps": (
        ["--data", "d.json", "--steps", "0", "--learning-rate", "1e-3", "--num-workers", "2"],
        "--learning-rate, --num-workers have no effect with --steps 0",
    ),
    "layers of json": (["--json", "--layers"], "--layers has no effect beside --json"),
    "no number of steps": (
        ["--data", "d.json", "--steps=-1"],
        "Invalid value for '--steps'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_have_no_effect_together(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, message = REFUSED[case]
    monkeypatch.setenv("COLUMNS", "300")
    result = CliRunner().invoke(app, ["shrink", "adapter", *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_help_says_what_seen_data_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = " ".join(CliRunner().invoke(app, ["shrink", "--help"]).stdout.replace("│", " ").split())
    assert "Data that the adapter was trained on make it look better than it is." in shown


def adapter_on(folder: Path) -> Path:
    """A LoRA that plain PEFT has saved of a small model that writes, whose tokenizer has no chat template."""
    base = AutoModelForCausalLM.from_pretrained(make_decoder(folder / "base"))
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(folder / "adapter")
    return folder / "adapter"


def test_errors_about_data_name_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without data a base model is compared, and what has no room in the sizes is said."""
    monkeypatch.setenv("COLUMNS", "300")
    adapter = str(adapter_on(tmp_path))
    chat = [{"role": "user", "content": "red"}, {"role": "assistant", "content": "front"}]
    rows = [{"messages": [{**chat[0], "content": f"red {number}"}, chat[1]]} for number in range(12)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["shrink", adapter, "--data", f"{tmp_path}/chats.jsonl", "--steps", "0", "--dry-run"]
    result = CliRunner().invoke(app, [*asked, "--storage", f"{tmp_path}/store"])
    assert result.exit_code == 2
    assert "give --chat-template (data.chat_template) a file, or none to read them as plain text" in result.stderr
    blind = CliRunner().invoke(app, ["shrink", adapter, "--base", f"{tmp_path}/base"])
    assert blind.exit_code == 0, blind.output
    assert f"Its layers are of '{tmp_path}/base', by names and shapes." in blind.stdout
    assert "Sizes left out: kept 0.0625, 0.03125: kept 0.0625 is below what a component of" in blind.stdout
    told = json.loads(CliRunner().invoke(app, ["shrink", adapter, "--json"]).stdout)
    assert told["sizes_left_out"].startswith("kept 0.0625, 0.03125: ")
    assert (
        json.loads(CliRunner().invoke(app, ["shrink", adapter, "--kept", ".5", "--json"]).stdout)["sizes_left_out"]
        is None
    )


@pytest.mark.slow
def test_steps_need_ray_and_cuts_do_not(tmp_path: Path) -> None:
    asked = ["shrink", str(tmp_path / "adapter"), "--data", "rows.json"]
    done = run_without({"ray", "optuna"}, *asked, blocked=True)
    assert done.returncode == 2
    assert done.stderr == (
        'error: shrink with steps needs ray and optuna: pip install "ray[default,train,tune]" "optuna"; '
        "--steps 0, which only cuts, needs neither\n"
    )
    done = run_without({"ray", "optuna"}, *asked, "--steps", "0", blocked=True)
    assert done.returncode == 2
    assert f"error: adapter '{tmp_path}/adapter' does not exist" in done.stderr  # bitsandbytes may have said something
