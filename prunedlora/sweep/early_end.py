"""Early end of trials that this process runs itself: by a signal, when time is up, when another driver took over."""

import os
import signal
import threading
import time
from types import TracebackType
from typing import Self

from prunedlora.results.driver_lock import DriverLock, DriverLockedError
from prunedlora.sweep.here_progress import HereProgress
from prunedlora.sweep.outcome import Ending
from prunedlora.sweep.signals import TERM_SECONDS, Signals
from prunedlora.training.loop import Verdict

LOOK_SECONDS = 0.2
AGAIN_SECONDS = 1.0


class EarlyEnd:
    """Answers whether to go on. As a context manager it looks in a thread of its own, while the main thread is busy: it
    says at once that an end was asked for, and has the process left TERM_SECONDS after SIGTERM."""

    def __init__(
        self, signals: Signals, lock: DriverLock, deadline: float, progress: HereProgress, spent_at: float
    ) -> None:
        """`deadline`, and when the sweep's device hours are spent, by time.monotonic()."""
        self._spent_at = spent_at
        self._signals = signals
        self._lock = lock
        self._deadline = deadline
        self._progress = progress
        self._is_told = False
        self._telling = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="early-end", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def reason(self) -> Ending | None:
        """Why no further trial is begun; None while there is no reason."""
        if self._signals.received is not None:
            return "interrupted"
        now = time.monotonic()
        if now > self._deadline:
            return "the time is up"
        return "the device hours are spent" if now > self._spent_at else None

    def verdict(self) -> Verdict:
        """On a trial in hand."""
        try:
            self._lock.check()
        except DriverLockedError:  # raised again once the trial is left: it is no failure of the trial
            return Verdict.PAUSE
        if self.reason is None:
            return Verdict.CONTINUE
        self._tell()
        return Verdict.PAUSE

    def _tell(self) -> None:
        with self._telling:
            if not self._is_told:
                self._is_told = True
                self._progress.say(f"{self.reason}: what is in hand writes a checkpoint and goes on in the next run")

    def _look(self) -> None:
        leave_at = None
        while not self._over.wait(LOOK_SECONDS):
            self._progress.tick()
            if self.reason is not None:
                self._tell()
            now = time.monotonic()
            if leave_at is None and self._signals.received is signal.SIGTERM:
                leave_at = now + TERM_SECONDS
            if leave_at is not None and now >= leave_at:
                # The second one raises, in the main thread; in vain where that is in a callback of a weak reference or
                # of the garbage collector, whose errors Python swallows: again, then.
                os.kill(os.getpid(), signal.SIGTERM)
                leave_at = now + AGAIN_SECONDS
