"""A speed measured in a minute, on the real model with the real data: a few steps, some examples, one export."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from prunedlora.adapters.export import export
from prunedlora.config.identity import model_location
from prunedlora.config.trial import TrialConfig
from prunedlora.results.analysis.plan_document import MeasuredSpeed
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.loop import StepLog, Verdict
from prunedlora.training.model import release_memory
from prunedlora.training.train_alone import train_alone
from prunedlora.training.trial import Trial
from prunedlora.trial.assemble import build_method, build_trial, num_steps
from prunedlora.trial.assets import AssetCache, Assets
from prunedlora.trial.candidates import ADAPTER, validation_examples, verified
from prunedlora.trial.start import begin_heads, labels_of, start_of

WARM_STEPS = 3
"""Not counted: kernels are chosen, memory is fetched. Fewer where the training has fewer."""
MOST_STEPS = 60
STEP_SECONDS = 20.0
"""Given to all steps together; one that counts is done whatever it takes."""
TELLING_SECONDS = 2.0
"""An evaluation of so long tells its speed; of more examples where it took less, of one batch at least."""


class NotMeasuredError(ValueError):
    """A training that cannot be measured; the message says why."""


def measure_speed(
    config: TrialConfig,
    kind: str,
    *,
    assets: AssetCache,
    workers: Workers,
    clock: Callable[[], float] = time.perf_counter,
) -> MeasuredSpeed:
    """How fast this configuration trains and is evaluated by these workers, which all call this alike; equal on all of
    them. `kind`: a name for it. Nothing is written, and base and data stay in `assets`. `clock`: seconds.

    The steps are its first, at its largest ranks: after a removal it may be faster. Raises NotMeasuredError where no
    step is asked for, and what loading and training raise.
    """
    started = clock()
    if workers.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(workers.device)
    loaded = assets.get(config, labels_of(config, start_of(config)))
    if num_steps(config, len(loaded.train)) == 0:
        raise NotMeasuredError("training.num_steps is 0: nothing is trained, so no speed can be measured")
    method = build_method(config, num_steps(config, len(loaded.train)), loaded.skeleton.reach.modules)
    model = method.attach(loaded.base.model, ADAPTER)
    try:
        begin_heads(config, model, loaded.base)
        live = build_trial(config, loaded, model, method, workers)
        loading = clock() - started
        logs = _steps(live, workers, clock)
        example = _per_example(live, config, loaded, workers, clock, generate=False)
        answer = None
        if config.generate is not None:
            answer = _per_example(live, config, loaded, workers, clock, generate=True)
        exporting = 0.0 if config.adapter is None else _export(live, config, loaded, workers, clock)
    finally:
        method.close()
        method.detach(model)
        release_memory(workers.device)  # what was the most stays on record
    peak = max(workers.gather(_peak_bytes(workers.device)))
    measured: MeasuredSpeed = workers.from_first(
        MeasuredSpeed(
            kind=kind,
            device=_device_name(workers.device),
            loading_seconds=loading,
            num_steps=len(logs),
            step_seconds=statistics.median(log.seconds for log in logs),
            position_seconds=sum(log.seconds for log in logs) / sum(log.positions for log in logs),
            example_seconds=example,
            answer_seconds=answer,
            export_seconds=exporting,
            peak_bytes=peak,
        )
    )
    return measured


def _steps(live: Trial, workers: Workers, clock: Callable[[], float]) -> list[StepLog]:
    """The first steps, without those that warm up; rank 0's clock says when there are enough."""
    logs: list[StepLog] = []
    warm = min(WARM_STEPS, live.num_steps - 1)
    started = clock()

    def on_step(log: StepLog) -> Verdict:
        logs.append(log)
        is_enough = len(logs) > warm and (len(logs) >= warm + MOST_STEPS or clock() - started > STEP_SECONDS)
        return Verdict.PAUSE if is_enough else Verdict.CONTINUE

    train_alone(live, workers, on_step=on_step)
    return logs[warm:]


def _per_example(
    live: Trial, config: TrialConfig, assets: Assets, workers: Workers, clock: Callable[[], float], *, generate: bool
) -> float:
    """Seconds of the slot for one validation example, from more and more of them until that has taken a while."""
    examples = validation_examples(config, assets)
    number = min(len(examples), config.evaluation.batch_size * workers.num_workers)
    while True:
        started = clock()
        evaluate(
            live.model,
            assets.task,
            examples[:number],
            batch_size=config.evaluation.batch_size,
            dtype=live.dtype,
            workers=workers,
            fit=live.fit,
            generate=generate,
        )
        took = float(workers.from_first(clock() - started))
        if number == len(examples) or took > TELLING_SECONDS:
            return took / number
        number = min(len(examples), 2 * number)


def _export(live: Trial, config: TrialConfig, assets: Assets, workers: Workers, clock: Callable[[], float]) -> float:
    """Seconds of writing and verifying the adapter; rank 0 does it, as for a candidate."""
    took = 0.0
    if workers.rank == 0:
        with tempfile.TemporaryDirectory() as scratch:
            started, folder = clock(), Path(scratch) / "adapter"
            export(live.model, ADAPTER, folder, model_location(config.model.name), config.model.revision)
            verified(live.model, live.dtype, folder, assets, workers, merged=False)
            took = clock() - started
    return float(workers.from_first(took))


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024  # kibibytes but on macOS


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
