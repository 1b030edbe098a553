"""`prunedlora shrink` with steps, by the README's command on conversations: on Ray, and killed in mid-run."""

import contextlib
import json
import os
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunedlora.config.trial import TrialConfig
from prunedlora.results.store import Store
from prunedlora.trial.assets import AssetCache
from tests.product.by_hand import CHATS, seeded, words
from tests.tiny import WORDS, make_decoder
from tests.trial.originals import all_of, record_of
from tests.trial.originals import run as run_in_one_piece

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Run = Callable[..., subprocess.CompletedProcess[str]]
TEMPLATE = (
    "{% for m in messages %}{{ m.role + '\n' + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
)
NUM_STEPS = 20
"""At each of two sizes."""
OPTIONS = ["--steps", str(NUM_STEPS), "--kept", ".5,.25", "--learning-rate", "5e-3", "--batch-size", "4"]
OPTIONS += ["--set", "retention.checkpoint_every_steps=3"]
PATIENCE = {"RAY_raylet_start_wait_time_s": "300"}
"""Seconds that Ray may take to start on a busy machine."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a small model that chats, chats, and an adapter that plain PEFT has saved."""
    tokenizer: Any = AutoTokenizer.from_pretrained(make_decoder(tmp_path / "base"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "base")
    rows = [
        [{"role": "user", "content": f"{one} {other}"}, {"role": "assistant", "content": one}]
        for one in WORDS
        for other in WORDS
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    with seeded():
        base: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        adapted.save_pretrained(str(tmp_path / "my_adapter"))
    return tmp_path


def killed_in_mid_run(home: Path, store: Store) -> None:
    """Starts the command, and kills it when a checkpoint of the first rung's training is there."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (home / "killed.txt").open("w") as text:
        driver = subprocess.Popen(
            [*words(CHATS), *OPTIONS], cwd=home, env=environment | PATIENCE, stdout=text, stderr=text
        )
    deadline = time.monotonic() + 400
    while not any(int(name.partition("-")[0]) > 0 for ask in store.asks() for name in store.checkpoints(ask.key)):
        assert driver.poll() is None, (home / "killed.txt").read_text()
        assert time.monotonic() < deadline, (home / "killed.txt").read_text()
        time.sleep(0.02)
    processes = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    for process in processes:  # Ray's too: what trains must not end what the driver has begun
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait()
    psutil.wait_procs(processes, timeout=60)
    assert store.records() == []


def test_killed_and_run_again_it_is_what_it_would_have_been(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "runs" / "shrink-my_adapter"
    store = Store(str(path))
    killed_in_mid_run(home, store)
    said = run(*words(CHATS), *OPTIONS, cwd=home, timeout=500, variables=PATIENCE).stdout
    assert "Trials: 0 kept, 1 resumed, 0 new, 0 failed; all trials are done." in said
    (record,) = store.records()
    assert record.attempts == 2
    trial = TrialConfig.model_validate(record.config)
    names = [candidate.name for candidate in record.candidates]
    assert [candidate.step for candidate in record.candidates if candidate.cut is None] == [0, NUM_STEPS, 2 * NUM_STEPS]
    assert len([candidate for candidate in record.candidates if candidate.cut is not None]) == 4
    monkeypatch.chdir(home)
    whole = home / "whole"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_in_one_piece(trial, whole, AssetCache(torch.device("cpu")))
    assert all_of(path, record) == all_of(whole, record_of(trial, whole))
    assert {"README.md", "certificate.json"} < {each.name for each in (path / "recommended").iterdir()}
    with seeded():
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(home / "base"), str(path / "recommended"))
    front = json.loads((path / "report" / "front.json").read_text())
    assert {point["candidate"] for point in front["front"]} <= set(names)
