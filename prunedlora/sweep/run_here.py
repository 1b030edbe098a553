"""A sweep of baselines alone, run in this process: it leaves what `run_sweep` leaves, without Ray and without Optuna.

Everything that must survive a killed process is in the store; run the same command again and it goes on.
"""

import time
from collections.abc import Sequence

import torch
from rich.console import Console

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.analysis.summary import summarize
from prunedlora.study.asker import Asker
from prunedlora.sweep.conclusion import Conclusion, conclude
from prunedlora.sweep.device_hours import check_device_hours, meter_of
from prunedlora.sweep.finish import drop_dominated, finish_recommended, is_recommended_left
from prunedlora.sweep.here_progress import HereProgress
from prunedlora.sweep.here_run import HereRun, quiet, threads, try_trials
from prunedlora.sweep.opening import Opening
from prunedlora.sweep.outcome import Ending, SweepResult
from prunedlora.sweep.signals import Signals
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.base_reference import measure_base


class NotHereError(ValueError):
    """A sweep that takes more than this process; the message names the setting."""


def run_here(
    config: SweepConfig,
    storage: str,
    *,
    console: Console,
    command: Sequence[str] = (),
    retry_failed: bool = False,
    device: torch.device,
) -> SweepResult:
    """Runs a sweep of baselines alone, or goes on with one, and leaves records, report and the recommended adapter in
    its store.

    Args:
        storage: path or URI of the store; it replaces the one in `config`.
        command: the process's arguments (sys.argv), shown in the report as the way to get the sweep again.
        retry_failed: train trials again whose record says failed.
        device: that it computes on; on a CPU with as many threads as a worker of the sweep has.

    Raises:
        NotHereError: the sweep searches, or its trials take several workers.
        StoreError: the storage cannot be written, or holds something else.
        RecordError: a document in the store is broken.
        DriverLockedError: another driver runs this sweep.
        DeviceHoursError: max_device_hours is less than one training takes.
        InterruptedHereError: what is not a trial's doing has interrupted it (it goes on from its last checkpoint).
        SystemExit: at SIGTERM; what could not write a checkpoint in time begins at its last one.
        Exception: what failed a trial and took the device with it, once the trial is on record.
        and what `preflight` finds wrong with models and data.
    """
    began, joined_at = time.monotonic(), time.time()
    _check(config)
    opening = Opening(config, storage)
    opening.create()
    store = opening.store
    with opening.lock(console) as lock:
        opening.bind(command)
        asker = Asker(config, store, retry_failed=retry_failed)
        asker.relabel(lock.epoch)
        workers = Workers(0, 1, device)
        progress = HereProgress(console, config.quality, asker.num_kept + asker.num_left, asker.num_kept)
        run = HereRun(config, store, lock, asker, workers, AssetCache(device), progress)
        is_left = asker.num_left > 0 or store.read_base() is None or is_recommended_left(summarize(store))
        opening.check(console, something_is_left=is_left)
        check_device_hours(config, store, asker, opening.amounts)
        meter = meter_of(config, store, asker)
        if asker.num_left and meter is not None and meter.is_spent:
            run.ending = "the device hours are spent"
        elif is_left:
            run.spent_at = float("inf") if meter is None else time.monotonic() + meter.seconds_left
            deadline = float("inf") if config.max_seconds is None else began + config.max_seconds
            with Signals() as signals, threads(config.resources.cpus_per_worker), quiet(), progress:
                run.ending = try_trials(run, signals, deadline)
                if run.ending == "all trials are done":
                    run.ending = _finish(run)
        summary = summarize(store)
        if config.retention.adapters == "front" and run.ending != "interrupted":
            summary = summarize(store, records=drop_dominated(summary, lock.epoch))
        run.problems += [
            f"trial {record.key} failed: {record.failure.type}: {record.failure.message}"
            for record in summary.failed
            if record.failure is not None
        ]
        this = {"busy_seconds": run.busy_seconds, "num_finished": run.num_finished, "joined_at": joined_at}
        end = Conclusion(began, run.ending, asker, run.num_ended, 0.0, run.problems, [this])
        return conclude(summary, end, console)


def _check(config: SweepConfig) -> None:
    if config.num_trials > 0:
        raise NotHereError(f"num_trials {config.num_trials} is a search: in this process run baselines alone, with 0")
    if config.resources.num_workers > 1:
        raise NotHereError(f"resources.num_workers {config.resources.num_workers}: this process is one, give 1")


def _finish(run: HereRun) -> Ending:
    """Measures what is left beside the trials; returns why the run ended. Ctrl-C leaves the rest to the next run, and
    the report tells what is there."""
    try:
        _measure_rest(run)
    except KeyboardInterrupt:
        run.progress.say("interrupted: what is left is measured in the next run")
        return "interrupted"
    return run.ending


def _measure_rest(run: HereRun) -> None:
    """The base model's figures, and test figures and a copy of the recommended adapter."""
    store = run.store
    if store.read_base() is None:
        run.progress.doing("evaluating the base model")
        if problem := run.problem_of(
            lambda: measure_base(run.pinned(run.terms.trial), store=store, assets=run.assets, workers=run.workers)
        ):
            run.problems.append(f"the base model was not evaluated: {problem}")
    run.problems += finish_recommended(summarize(store), run.test)
