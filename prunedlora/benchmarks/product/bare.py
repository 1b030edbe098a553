"""Training without the product around it: what a plain script would do with one configuration, in plain processes."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from prunedlora.adapters.export import export
from prunedlora.adapters.size import measure
from prunedlora.config.identity import model_location
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Cut
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.loop import Verdict
from prunedlora.training.train_alone import train_alone
from prunedlora.trial.assemble import build_method, build_trial, num_steps
from prunedlora.trial.assets import Assets, load_assets
from prunedlora.trial.candidates import ADAPTER, validation_examples
from prunedlora.trial.cutter import Cutter
from prunedlora.trial.start import begin_heads


def train_bare(config: TrialConfig, assets: Assets, device: torch.device) -> float:
    """Trains, evaluates and saves the adapter at the same steps as the product; no store, record, log or check.

    Returns the seconds it took.
    """
    began = time.perf_counter()
    workers = Workers(0, 1, device)
    method = build_method(config, num_steps(config, len(assets.train)), assets.skeleton.reach.modules)
    model = method.attach(assets.base.model, ADAPTER)
    begin_heads(config, model, assets.base)
    live = build_trial(config, assets, model, method, workers)
    cutter = Cutter.of(config, live, assets, workers)

    def add_candidate(_: Cut | None = None, __: Outcomes | None = None) -> Verdict:
        evaluate(
            live.model,
            assets.task,
            validation_examples(config, assets),
            batch_size=config.evaluation.batch_size,
            dtype=live.dtype,
            workers=workers,
        )
        if config.full is None and measure(model, ADAPTER).max_rank > 0:
            with tempfile.TemporaryDirectory() as scratch:
                export(model, ADAPTER, Path(scratch) / "adapter", model_location(config.model.name))
        return Verdict.CONTINUE

    def on_milestone() -> Verdict:
        add_candidate()
        if cutter is not None and cutter.are_due:
            cutter.make([], [], lambda _: None, add_candidate, save=lambda: None, log=lambda _: None)
        return Verdict.CONTINUE

    train_alone(live, workers, on_milestone=on_milestone)
    method.close()
    method.detach(model)
    return time.perf_counter() - began


def bare_seconds(configs: Sequence[TrialConfig], num_processes: int, num_threads: int) -> list[float]:
    """Seconds of each configuration, back to back in as many plain processes at once as given; model and data are
    loaded before the clock starts."""
    context = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    ready = context.Barrier(num_processes)
    queue: Any = context.SimpleQueue()
    for config in configs:
        queue.put(config.model_dump(mode="json"))
    for _ in range(num_processes):
        queue.put(None)
    seconds: Any = context.SimpleQueue()
    arguments = (configs[0].model_dump(mode="json"), queue, seconds, ready, num_threads)
    processes = [context.Process(target=_worker, args=arguments) for _ in range(num_processes)]
    for process in processes:
        process.start()
    results: list[float] = []
    while len(results) < len(configs):
        if seconds.empty() and any(process.exitcode for process in processes):
            raise RuntimeError("a bare process failed; its error is printed above")
        if seconds.empty():
            time.sleep(0.1)
        else:
            results.append(seconds.get())
    for process in processes:
        process.join()
    return results


def _worker(first: dict[str, Any], queue: Any, seconds: Any, ready: Any, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    device = torch.device("cpu")
    assets = load_assets(TrialConfig.model_validate(first), device)
    ready.wait()
    while (config := queue.get()) is not None:
        seconds.put(train_bare(TrialConfig.model_validate(config), assets, device))
