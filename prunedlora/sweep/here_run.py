"""A run in this process: trials one after another, and what follows them, without Ray. Sweeps of baselines run so, and
confirmations."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers.utils import logging

from prunedlora.config.pins import pinned
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.store import Store
from prunedlora.sweep.early_end import EarlyEnd
from prunedlora.sweep.here_progress import HereProgress
from prunedlora.sweep.outcome import Ending
from prunedlora.sweep.signals import TERMINATED, Signals
from prunedlora.sweep.terms import Terms, TrialSource
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.failures import row_of
from prunedlora.trial.outside_error import OutsideError
from prunedlora.trial.resume import reached


class InterruptedHereError(RuntimeError):
    """Trouble around a trial that is none of its doing; the same command goes on."""


@dataclass
class HereRun:
    """What one run gathers."""

    terms: Terms
    store: Store
    lock: DriverLock
    asker: TrialSource
    workers: Workers
    assets: AssetCache
    progress: HereProgress
    spent_at: float = float("inf")
    """When the sweep's device hours are spent, by time.monotonic()."""
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

    def test(self, point: Point, what: str) -> str | None:
        """Measures a candidate on the test split; why it could not, None: it did. `what` it is, for people."""
        key, name = point.key, point.candidate.name
        self.progress.doing(f"evaluating {what}, {point.name}, on the test split")
        return self.problem_of(
            lambda: measure_test(self.trial(key), key, name, store=self.store, assets=self.assets, workers=self.workers)
        )

    def problem_of(self, work: Callable[[], None]) -> str | None:
        """Why a piece of work beside the trials was not done; what the trials found is told all the same. None: it
        was."""
        try:
            with self.working():
                work()
        except Exception as error:
            self.lock.check()
            if not (isinstance(error, OutsideError) or row_of(error, loading=False).consequence.has_record):
                raise
            return f"{type(error).__name__}: {error}"
        return None


@contextmanager
def threads(number: int) -> Iterator[None]:
    """With so many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
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


def try_trials(run: HereRun, signals: Signals, deadline: float) -> Ending:
    """Has all trials tried; returns why it ended. Raises what `run_here` says."""
    asker = run.asker
    signals.watching = True
    try:
        with EarlyEnd(signals, run.lock, deadline, run.progress, run.spent_at) as early:
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


def _try_one(run: HereRun, key: str, early: EarlyEnd) -> str:
    """How a trial ended; "paused" where it has no record."""
    store, terms, progress = run.store, run.terms, run.progress

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
                max_attempts=terms.max_attempts,
                report=report,
                progress=stepped,
                keep_checkpoints=terms.retention.checkpoints == "always",
                checkpoint_every_steps=terms.retention.checkpoint_every_steps,
                checkpoint_every_seconds=terms.retention.checkpoint_every_seconds,
                evaluating=progress.evaluating,
                choosing=choosing,
            )
    except Exception as error:
        run.lock.check()  # whoever took over is who is to be told of
        if isinstance(error, OutsideError):
            raise InterruptedHereError(f"{error}. No trial has failed by this: run the same command again") from error
        raise
