"""The callback in a Trainer under DDP: two processes, each with half of every batch."""

import gc
import json
import os
import socket
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from prunedlora import PrunedLoraCallback, PruningConfig
from prunedlora.adapters.layers import adapted_layers
from prunedlora.pruning import pruner as pruner_module
from prunedlora.training.agreement import WorkersDifferError
from tests.ranks import run_ranks

PRUNING = {
    "target_rank": 2,
    "schedule": {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2},
    "gradient_cap": 0.1,
}
LADDER = {
    "allocation": "global_per_parameter",
    "min_rank": 0,
    "gradient_cap": 0.1,
    "schedule": {"name": "ladder", "rungs": {"mean_rank": [3, 1, 0.5]}, "trunk": 0.4},
}
NUM_STEPS = 10


def train(rank: int, num_workers: int, folder: str, port: int, mode: str) -> None:
    """`mode` "errs": rank 1 works out other costs; "ladder": a ladder, in float64. Leaves its events, ‖G P‖ / ‖W‖ at
    them, and how many all-reduces of ours there were."""
    torch.set_num_threads(1)
    if num_workers > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_workers), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
        }  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=6, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(1)
    for layer in adapted_layers(model, "default"):
        layer.B.data = torch.randn(layer.B.shape, generator=generator) * 0.1
    ids = torch.randint(50, (8 * NUM_STEPS, 9), generator=generator)
    if mode == "ladder":
        model.double()
    callback = PrunedLoraCallback(PruningConfig(**(LADDER if mode == "ladder" else PRUNING)))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=folder,
            max_steps=NUM_STEPS,
            per_device_train_batch_size=8 // num_workers,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            max_grad_norm=0.0,
            seed=5,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in ids],
        callbacks=[callback],
    )
    steps, calls = watched(errs=mode == "errs" and rank == 1)
    try:
        trainer.train()
    except WorkersDifferError:
        os._exit(7)
    events = [(event.step, event.removed) for event in callback.events]
    Path(folder, f"{num_workers}-{rank}.json").write_text(json.dumps([events, steps, len(calls)]))
    if num_workers > 1:
        # First what holds the group: torch's reducer, freed last, waits with the GIL for the group's threads, which may
        # want it (one of 17 runs hung).
        wrapped = weakref.ref(trainer.model_wrapped)
        del trainer
        gc.collect()
        assert wrapped() is None
        torch.distributed.destroy_process_group()


def watched(*, errs: bool) -> tuple[list[list[float]], list[None]]:
    steps: list[list[float]] = []
    calls: list[None] = []
    remove, reduce = pruner_module.remove, torch.distributed.all_reduce

    def seen(layers: Any, criterion: Any, known: Any, *inputs: Any, gradients: Any, **named: Any) -> Any:
        from prunedlora.pruning.event import with_gradient

        _, share = with_gradient(layers, known, gradients, 1e-9)
        steps.append((1e-9 / share).tolist())
        if errs:
            gradients = [-100 * gradient for gradient in gradients]
        return remove(layers, criterion, known, *inputs, gradients=gradients, **named)

    def counted(*inputs: Any, **named: Any) -> Any:
        calls.append(None)
        return reduce(*inputs, **named)

    pruner_module.remove, torch.distributed.all_reduce = seen, counted  # type: ignore[assignment]
    return steps, calls


def run(num_workers: int, folder: Path, mode: str = "") -> list[int | None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return run_ranks(train, num_workers, num_workers, str(folder), port, mode)


@pytest.mark.slow
def test_two_processes_remove_what_one_removes(tmp_path: Path) -> None:
    """In one all-reduce a step (all statistics, how many targets) while anything is observed, and one after each step
    that may remove (what was decided): steps 1 to 7, and 2, 4, 6 and 7."""
    assert run(1, tmp_path) == [0]
    assert run(2, tmp_path) == [0, 0]
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert len(one[0]) > 1
    assert one[0] == first[0] == second[0]
    for ours, theirs in zip(one[1], first[1], strict=True):
        assert theirs == pytest.approx(ours, rel=1e-2)
    assert one[2] == 0
    assert first[2] == 7 + 4


@pytest.mark.slow
def test_two_processes_go_down_a_ladder_as_one(tmp_path: Path) -> None:
    """The same components at every rung, and one set of adapters, by rank 0. One all-reduce for each observed step (1
    to 8) and one at each of three borders."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert run(1, tmp_path / "one", "ladder") == [0]
    assert run(2, tmp_path / "two", "ladder") == [0, 0]
    one = json.loads((tmp_path / "one" / "1-0.json").read_text())
    first, second = (json.loads((tmp_path / "two" / f"2-{rank}.json").read_text()) for rank in range(2))
    assert [step for step, _ in one[0]] == [4, 6, 8]
    assert one[0] == first[0] == second[0]
    assert first[2] == 8 + 3
    indices = [json.loads((tmp_path / name / "rungs" / "rungs.json").read_text()) for name in ("one", "two")]
    assert indices[0] == indices[1]
    assert [entry["step"] for entry in indices[0]] == [4, 6, 8, 10]
    for entry in indices[0]:
        left, right = (
            load_file(tmp_path / name / "rungs" / entry["folder"] / "adapter_model.safetensors")
            for name in ("one", "two")
        )
        assert left.keys() == right.keys()
        for name in left:
            torch.testing.assert_close(left[name], right[name], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_processes_that_remove_different_components_are_told(tmp_path: Path) -> None:
    assert run(2, tmp_path, "errs") == [7, 7]
