"""Watch: Tune tries trials in a thread, while the main thread shows progress and looks for reasons to end."""

import signal
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any, Literal

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.progress_reporter import TrialProgressCallback

from prunedlora.fleet.proxy import make_proxy
from prunedlora.fleet.searcher import StoreSearcher
from prunedlora.fleet.slots import Slots
from prunedlora.results.driver_lock import DriverLock
from prunedlora.study.asker import Asker
from prunedlora.sweep.progress import Progress
from prunedlora.sweep.signals import TERMINATED, Signals

WATCH_SECONDS = 1.0
MOST_PROXY_FAILURES = 10
TERM_SECONDS = 1.5
"""Given to running trials to write a checkpoint after SIGTERM; `ray job stop` leaves 3 s in all."""

Ending = Literal["all trials are done", "the space is exhausted", "the time is up", "interrupted"]


def watch(
    board: Any,
    asker: Asker,
    slots: Slots,
    lock: DriverLock,
    signals: Signals,
    progress: Progress,
    deadline: float,
) -> Ending:
    """Has all trials tried that the asker hands out; returns why it ended. `deadline`: by time.monotonic().

    Raises SlotsLostError when no slot is left, DriverLockedError when another driver took over, SystemExit at SIGTERM.
    """
    ending: Ending = "all trials are done"
    searcher = StoreSearcher(asker)
    trials = TuneThread(searcher, board, asker.num_concurrent)
    trials.start()
    signals.watching = True
    try:
        while trials.is_alive():
            trials.join(WATCH_SECONDS)
            slots.check()
            lock.check()
            progress.update(ray.get(board.snapshot.remote()))
            if signals.received is signal.SIGTERM:
                _leave(board, searcher, lock)
            if ending == "all trials are done" and (signals.received or time.monotonic() > deadline):
                ending = "interrupted" if signals.received else "the time is up"
                progress.say(f"{ending}: trials in training write a checkpoint and go on in the next run")
                searcher.end()
                ray.get(board.pause.remote())
    except SystemExit:  # `_leave` has paused what there was
        raise
    except BaseException:
        _pause(board, searcher)
        raise
    finally:
        signals.watching = False
    if trials.error is not None:
        _pause(board, searcher)
        raise trials.error
    return ending


def _pause(board: Any, searcher: StoreSearcher) -> None:
    """Before an error goes on: trials in training write a checkpoint."""
    searcher.end()
    with suppress(RayError):  # the board may be what is lost: the error that goes on is the one to tell
        ray.get(board.pause.remote())


class SilentTrials(TrialProgressCallback):
    """Tune's printer of trials, which would print some lines at any verbosity, into the middle of the live view."""

    def _print(self, msg: str) -> None:
        pass


class TuneThread(threading.Thread):
    """One `Tuner.fit()`. Its folder is thrown away: what counts is in the store."""

    def __init__(self, searcher: StoreSearcher, board: Any, num_concurrent: int) -> None:
        super().__init__(name="tune", daemon=True)
        self._searcher = searcher
        self._board = board
        self._num_concurrent = num_concurrent
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="prunedlora-tune-", ignore_cleanup_errors=True) as scratch:
                tune.Tuner(
                    make_proxy(self._board),
                    tune_config=tune.TuneConfig(
                        search_alg=self._searcher,
                        num_samples=-1,
                        max_concurrent_trials=self._num_concurrent,
                        reuse_actors=True,
                    ),
                    run_config=tune.RunConfig(
                        name="trials",
                        storage_path=scratch,
                        verbose=0,
                        callbacks=[SilentTrials()],
                        # A proxy that dies with its node starts again; the board knows its trial.
                        failure_config=tune.FailureConfig(max_failures=MOST_PROXY_FAILURES),
                    ),
                ).fit()
        except BaseException as error:  # raised again in the main thread
            self.error = error


def _leave(board: Any, searcher: StoreSearcher, lock: DriverLock) -> None:
    """Leaves within TERM_SECONDS: what could not write a checkpoint by then begins at its last one."""
    searcher.end()
    try:
        ray.get(board.pause.remote())
        deadline = time.monotonic() + TERM_SECONDS
        while time.monotonic() < deadline and ray.get(board.snapshot.remote())["running"]:
            time.sleep(0.1)
    except RayError:
        pass  # the signal went to the whole process group, and Ray was faster: the last checkpoints have to do
    lock.release()
    raise SystemExit(TERMINATED)
