"""The laboratory: what `jobs/benchmark.py small-model` makes is what search_spaces/*_small*.yaml train."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunedlora.config.load import load_sweep
from prunedlora.sweep.preflight import preflight

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_small_model_and_its_task_fit_the_comparison(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "jobs/benchmark.py",
        "small-model",
        str(tmp_path),
        "--num-steps",
        "60",
        "--num-threads",
        "1",
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "step 60 of 60" in said
    model, tokenizer = tmp_path / "model", AutoTokenizer.from_pretrained(tmp_path / "model")
    assert AutoModelForCausalLM.from_pretrained(model).num_parameters() < 10**6
    assert tokenizer.decode(tokenizer("rev abc> cba")["input_ids"]) == "rev abc> cba"
    tasks = {"compare_small": "backward", "compare_small_placement": "backward", "ladder_small": "backward_short"}
    for name, task in tasks.items():
        names = [f"trial.model.name={model}", f"trial.data.train.name={tmp_path / task}.jsonl"]
        preflight(load_sweep(ROOT / "search_spaces" / f"{name}.yaml", names))
