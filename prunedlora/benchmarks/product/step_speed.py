"""What pruning costs per training step: before watching, watching, and after shrinking, against LoRA at both ranks.

Variants take turns on the same machine and the same batches, each on a base model of its own; medians are compared.
Peak memory is that of a process (CPU) or of the device (CUDA) that trains one variant alone.
"""

import copy
import multiprocessing
import statistics
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import timer

from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import StepLog, Verdict
from prunedlora.training.model import draw_new_parameters, release_memory
from prunedlora.training.train_alone import train_alone
from prunedlora.training.trial import Trial
from prunedlora.trial.assemble import build_method, build_trial
from prunedlora.trial.assets import Assets, load_assets
from prunedlora.trial.candidates import ADAPTER

SHRINK_AT = 2
"""Step of the one event of the variant that is measured after shrinking: B has left zero by then."""
WARM_UP = 3
"""Steps of a variant that are not timed, once it is in its final shape."""


class MemoryMeasurementError(RuntimeError):
    """A process that was to measure its memory died; the message says of which variant and how."""


def variants(base: TrialConfig, initial_rank: int, target_rank: int, num_steps: int) -> dict[str, TrialConfig]:
    """The six trainings, all `num_steps` long."""
    lora: dict[str, Any] = {"adapter.method": "lora", "pruning": None}
    pruned: dict[str, Any] = {"adapter.method": "prunedlora", "adapter.initial_rank": initial_rank}

    def pruning(begin: float, curvature: str, decay: float = 1 - 1 / num_steps) -> dict[str, Any]:
        """By default all steps count, so that all are watched; at decay 0 the event's alone."""
        schedule = {"name": "one_shot", "begin": begin, "every_steps": 1}
        settings = {"target_rank": target_rank, "curvature": curvature, "ema_decay": decay, "schedule": schedule}
        return {"pruning": settings}

    changes = {
        "lora_initial": lora | {"adapter.initial_rank": initial_rank},
        "waiting": pruned | pruning(1.0, "token", 0.0),
        "observing_batch": pruned | pruning(1.0, "batch"),
        "observing_token": pruned | pruning(1.0, "token"),
        "shrunk": pruned | pruning(SHRINK_AT / num_steps, "token"),
        "lora_target": lora | {"adapter.initial_rank": target_rank},
    }
    shared = {"training.num_epochs": None, "training.num_steps": num_steps}
    return {name: trial_with(base, shared | change) for name, change in changes.items()}


def step_costs(
    base: TrialConfig, *, initial_rank: int, target_rank: int, num_rounds: int, round_steps: int, device: torch.device
) -> dict[str, Any]:
    """Median seconds of a step of each variant, its peak memory, and their ratios.

    Raises MemoryMeasurementError when the process that measures a variant's memory dies.
    """
    # Long enough that what only watches never comes to its event.
    num_steps = SHRINK_AT + WARM_UP + num_rounds * round_steps + 1
    configs = variants(base, initial_rank, target_rank, num_steps)
    assets = load_assets(base, device)
    lives = {name: start(config, assets, device) for name, config in configs.items()}
    medians = median_seconds(lives, num_rounds=num_rounds, round_steps=round_steps, device=device)
    del assets, lives  # their memory is needed by those whose memory is measured
    release_memory(device)
    memory = {name: peak_bytes(name, config, device) for name, config in configs.items()}
    return {
        "waiting_ratio": medians["waiting"] / medians["lora_initial"],
        "observe_ratio_batch": medians["observing_batch"] / medians["lora_initial"],
        "observe_ratio_token": medians["observing_token"] / medians["lora_initial"],
        "shrunk_ratio": medians["shrunk"] / medians["lora_target"],
        "peak_memory_ratio": _ratio(memory["observing_token"], memory["lora_initial"]),
        "step_seconds": medians,
        "peak_bytes": memory,
        "initial_rank": initial_rank,
        "target_rank": target_rank,
        "num_steps": num_rounds * round_steps,
        "num_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def median_seconds(
    lives: Mapping[str, Trial], *, num_rounds: int, round_steps: int, device: torch.device
) -> dict[str, float]:
    """Of a step of each variant, which take turns of `round_steps` after their warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in lives}
    for live in lives.values():
        _advance(live, SHRINK_AT + WARM_UP, device)
    for _ in range(num_rounds):
        for name, live in lives.items():
            seconds[name] += _advance(live, round_steps, device)
    return {name: statistics.median(values) for name, values in seconds.items()}


def start(config: TrialConfig, assets: Assets, device: torch.device) -> Trial:
    """A variant on a base model of its own, before its first step."""
    base = replace(assets.base, model=copy.deepcopy(assets.base.model))
    method = build_method(config, config.training.num_steps or 0, assets.skeleton.reach.modules)
    model = method.attach(base.model, ADAPTER)
    draw_new_parameters(model, base, config.seed)
    return build_trial(config, assets, model, method, Workers(0, 1, device))


def _advance(live: Trial, num_steps: int, device: torch.device) -> list[float]:
    """Trains on and returns the seconds of each step."""
    times: list[float] = []
    live.course = replace(live.course, milestones={live.step + num_steps})
    last = timer()

    def on_step(_: StepLog) -> Verdict:
        nonlocal last
        now = timer()
        times.append(now - last)
        last = now
        return Verdict.CONTINUE

    train_alone(live, Workers(0, 1, device), on_step=on_step, on_milestone=lambda: Verdict.STOP)
    return times


def _ratio(above: int | None, below: int | None) -> float | None:
    return None if above is None or below is None else above / below


def peak_bytes(name: str, config: TrialConfig, device: torch.device) -> int | None:
    """Most memory of a process that trains this variant alone. None on a CPU where the system does not say (no Linux).

    Raises MemoryMeasurementError when that process dies.
    """
    if device.type == "cpu" and sys.platform != "linux":
        return None
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (config.model_dump(mode="json"), str(device), torch.get_num_threads(), sender)
    process = context.Process(target=_measure_peak, args=arguments)
    process.start()
    sender.close()  # so that the pipe ends with the process
    try:
        peak = int(receiver.recv())
    except EOFError as error:
        process.join()
        raise MemoryMeasurementError(
            f"the process that measures the memory of {name} died with exit code {process.exitcode}; "
            "what it said stands above (-9: killed, out of memory?)"
        ) from error
    process.join()
    return peak


def _measure_peak(config: Mapping[str, Any], device_name: str, num_threads: int, sender: Any) -> None:
    torch.set_num_threads(num_threads)
    device = torch.device(device_name)
    trial = TrialConfig.model_validate(config)
    assets = load_assets(trial, device)
    live = start(trial, assets, device)
    is_cuda = device.type == "cuda"
    _advance(live, SHRINK_AT + 1, device)  # past the event: what is measured is a training step
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _forget_peak()
    _advance(live, WARM_UP, device)
    sender.send(torch.cuda.max_memory_allocated(device) if is_cuda else _resident_bytes())


def _resident_bytes() -> int:
    """The most memory that this process has held since `_forget_peak`, in bytes; Linux only.

    Not `getrusage`, whose maximum a new process takes over from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kibibytes) * 1024


def _forget_peak() -> None:
    """Sets the peak to what the process holds now: loading the model must not hide what training needs."""
    Path("/proc/self/clear_refs").write_text("5")
