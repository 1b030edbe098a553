"""What a sweep refuses beside its trial."""

import copy
from typing import Any, get_args

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import ServerName
from prunedlora.servers.known import SERVERS
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sampler", "x", "sampler: Input should be 'gp', 'nsga2', 'random', 'tpe' or 'tpe-joint' (got 'x')"),
        ("trial.model.quantization", "nf4", "needs CUDA, but resources.gpus_per_worker is 0"),
        ("trial.model.quantization", "int8", "'int8' needs CUDA, but resources.gpus_per_worker is 0"),
        (
            "trial.model.attn_implementation",
            "flash_attention_2",
            "trial.model.attn_implementation 'flash_attention_2' needs CUDA, but resources.gpus_per_worker is 0",
        ),
        ("resources", {"gpus_per_worker": 1.5}, "gpus_per_worker must be 0, 1 or a part of one GPU, got 1.5"),
        ("resources", {"gpus_per_worker": 2}, "a worker trains on one GPU; for more of them raise num_workers"),
        ("resources", {"gpus_per_worker": 0.001}, "gpus_per_worker must be 0 or at least 0.01, got 0.001"),
        ("resources", {"gpus_per_worker": 0.5, "num_workers": 2}, "NCCL refuses two workers of a slot on one GPU"),
        ("objectives", {"f1": "maximize", "max_rank": "minimize"}, "objective 'f1' is no recorded figure; known: "),
        ("objectives", {"accuracy": "minimize", "max_rank": "minimize"}, "objective 'accuracy' must be maximized"),
        ("objectives", {"accuracy": "maximize"}, "objectives must be one quality figure and one size, got accuracy"),
        (
            "recommend_within",
            1.0,
            "recommend_within must be below 1, a difference in accuracy, got 1; one",
        ),
        ("space", {}, "space: nothing is searched"),
        ("num_trials", 0, "num_trials 0 runs the baselines alone: it needs some, and an empty space"),
        ("space", {"pruning": {"value": None, "when": {"seed": [0]}}}, "space: nothing is searched"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


def test_the_method_is_searched_like_any_other_field(tree: dict[str, Any]) -> None:
    tree["space"]["adapter.method"] = {"choice": ["prunedlora", "lora", "droplora"]}
    tree["space"]["pruning"] = {"value": None, "when": {"adapter.method": ["lora", "droplora"]}}
    tree["space"]["droplora"] = {"value": {"probability": 0.3}, "when": {"adapter.method": ["droplora"]}}
    tree["baselines"] = [{"adapter": None, "pruning": None, "full": {}}]
    sweep = parse_sweep(tree, "x.yaml")
    assert sweep.baseline_trials()[0].method == "full"


@pytest.mark.parametrize(
    ("field", "value"), [("model.quantization", "int8"), ("model.attn_implementation", "flash_attention_2")]
)
def test_what_needs_a_gpu_in_a_baseline_or_a_corner(tree: dict[str, Any], field: str, value: str) -> None:
    needs = f"{field} {value!r} needs CUDA, but resources.gpus_per_worker is 0"
    baseline = copy.deepcopy(tree) | {"baselines": [{field: value}]}
    assert f"baselines[0]: {needs}" in error_of(baseline)
    corner = copy.deepcopy(tree)
    corner["space"][field] = {"choice": [None, value]}
    message = error_of(corner)
    assert needs in message
    assert "space at " in message
    for sweep in (baseline, corner):
        sweep["resources"] = {"gpus_per_worker": 1}
        parse_sweep(sweep, "x.yaml")


def test_servers_are_those_that_there_are_rules_for(tree: dict[str, Any]) -> None:
    known = "'peft', 'vllm', 'sglang', 'llama.cpp', 'lorax', 'tensorrt-llm' or 'mlx'"
    assert f"serve_on.1: Input should be {known} (got 'ollama')" in error_of(tree | {"serve_on": ["vllm", "ollama"]})
    assert "serve_on names 'vllm' twice: remove one" in error_of(tree | {"serve_on": ["vllm", "mlx", "vllm"]})
    assert get_args(ServerName) == tuple(SERVERS)
    assert parse_sweep(tree, "test").serve_on == []
