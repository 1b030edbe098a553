"""A sweep of baselines alone, run in this process: it leaves what `run_sweep` leaves, without Ray and without Optuna.

Everything that must survive a killed process is in the store; run the same command again and it goes on.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from rich.console import Console
from transformers.utils import logging

from prunedlora.config.pins import pinned
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.sweep.conclusion import Conclusion, conclude
from prunedlora.sweep.early_end import EarlyEnd
from prunedlora.sweep.finish import drop_dominated, export_recommended, missing_test
from prunedlora.sweep.here_progress import HereProgress
from prunedlora.sweep.opening import Opening
from prunedlora.sweep.outcome import Ending, SweepResult
from prunedlora.sweep.signals import TERMINATED, Signals
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.base_reference import measure_base
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.failures import row_of
from prunedlora.trial.outside_error import OutsideError
from prunedlora.trial.resume import reached


class NotHereError(ValueError):
    """A sweep that takes more than this process; the message names the setting."""


class InterruptedHereError(RuntimeError):
    """Trouble around a trial that is none of its doing; the same command goes on."""


@dataclass
class _Run:
    """What one run gathers."""

    config: SweepConfig
    store: Store
    lock: DriverLock
    asker: Asker
    workers: Workers
    assets: AssetCache
    progress: HereProgress
    ending: Ending = "all trials are done"
    num_ended: int = 0
    """Trials."""
    num_finished: int = 0
    """Pieces of work, trials among them."""
    busy_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def trial(self, key: str) -> TrialConfig:
        """A trial's configuration, its names on the Hub pinned to the sweep's commits."""
        return self.pinned(TrialConfig.model_validate(self.store.read_config(key)))

    def pinned(self, trial: TrialConfig) -> TrialConfig:
        return pinned(trial, self.store.binding.read_commits())

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around a piece of work."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.busy_seconds += time.monotonic() - began
        self.num_finished += 1


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
        run = _Run(config, store, lock, asker, workers, AssetCache(device), progress)
        is_left = asker.num_left > 0 or store.read_base() is None or missing_test(summarize(store)) is not None
        opening.check(console, something_is_left=is_left)
        if is_left:
            deadline = float("inf") if config.max_seconds is None else began + config.max_seconds
            with Signals() as signals, _threads(config.resources.cpus_per_worker), _quiet(), progress:
                run.ending = _try_trials(run, signals, deadline)
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


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what transformers says of every model that it loads: bars, and that a head is new."""
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _try_trials(run: _Run, signals: Signals, deadline: float) -> Ending:
    """Has all trials tried; returns why it ended. Raises what `run_here` says."""
    asker = run.asker
    signals.watching = True
    try:
        with EarlyEnd(signals, run.lock, deadline, run.progress) as early:
            while early.reason is None and (ask := asker.next()) is not None:
                status = _try_one(run, ask.key, early)
                if status == "paused":
                    asker.stop()
                record = asker.end(ask.number)
                if record is not None:
                    run.num_ended += 1
                    run.progress.ended(record)
    finally:
        signals.watching = False
        asker.close()
    if signals.received is signal.SIGTERM:
        raise SystemExit(TERMINATED)
    run.lock.check()
    return early.reason or "all trials are done"


def _try_one(run: _Run, key: str, early: EarlyEnd) -> str:
    """How a trial ended; "paused" where it has no record."""
    store, config, progress = run.store, run.config, run.progress

    def report(candidate: dict[str, object]) -> Verdict:
        progress.found(candidate)
        return early.verdict()

    def stepped(step: int, num_steps: int, _: float) -> Verdict:
        progress.stepped(step, num_steps)
        return early.verdict()

    def choosing(what: str) -> Verdict:
        progress.choosing(what)
        return early.verdict()

    trial = run.trial(key)
    progress.begin(key, store.read_label(key), trial, len(reached(store, key).candidates))
    try:
        with run.working():
            return execute_trial(
                trial,
                key,
                store=store,
                assets=run.assets,
                workers=run.workers,
                epoch=run.lock.epoch,
                max_attempts=config.max_attempts,
                report=report,
                progress=stepped,
                keep_checkpoints=config.retention.checkpoints == "always",
                checkpoint_every_steps=config.retention.checkpoint_every_steps,
                checkpoint_every_seconds=config.retention.checkpoint_every_seconds,
                evaluating=progress.evaluating,
                choosing=choosing,
            )
    except Exception as error:
        run.lock.check()  # whoever took over is who is to be told of
        if isinstance(error, OutsideError):
            raise InterruptedHereError(f"{error}. No trial has failed by this: run the same command again") from error
        raise


def _finish(run: _Run) -> Ending:
    """Measures what is left beside the trials; returns why the run ended. Ctrl-C leaves the rest to the next run, and
    the report tells what is there."""
    try:
        _measure_rest(run)
    except KeyboardInterrupt:
        run.progress.say("interrupted: what is left is measured in the next run")
        return "interrupted"
    return run.ending


def _measure_rest(run: _Run) -> None:
    """The base model's figures, and test figures and a copy of the recommended adapter."""
    store = run.store
    if store.read_base() is None:
        run.progress.doing("evaluating the base model")
        if problem := _problem(
            run, lambda: measure_base(run.pinned(run.config.trial), store=store, assets=run.assets, workers=run.workers)
        ):
            run.problems.append(f"the base model was not evaluated: {problem}")
    untested = missing_test(summarize(store))
    if untested is not None:
        key, name = untested.key, untested.candidate.name
        run.progress.doing(f"evaluating the recommended adapter, {untested.name}, on the test split")
        if problem := _problem(
            run, lambda: measure_test(run.trial(key), key, name, store=store, assets=run.assets, workers=run.workers)
        ):
            run.problems.append(f"the recommended adapter was not tested and not exported: {problem}")
        else:
            export_recommended(store, key, name)


def _problem(run: _Run, work: Callable[[], None]) -> str | None:
    """Why a piece of work beside the trials was not done; what the trials found is told all the same. None: it was."""
    try:
        with run.working():
            work()
    except Exception as error:
        run.lock.check()
        if not (isinstance(error, OutsideError) or row_of(error, loading=False).consequence.has_record):
            raise
        return f"{type(error).__name__}: {error}"
    return None
