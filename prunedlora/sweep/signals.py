"""Signals: Ctrl-C and `ray job stop` end a sweep cleanly while it is watched, and at once before and after."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn, Self

import typer

from prunedlora.fleet.slot_thread import slots_are_left

TERMINATED = 128 + signal.SIGTERM
TERM_SECONDS = 1.5
"""Given to running trials to write a checkpoint after SIGTERM; `ray job stop` leaves 3 s in all."""


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Around whatever runs sweeps in a process of its own: SIGTERM ends it at once, and so does the end of a command
    while a slot hangs (slot_thread.py), with their own status.

    Threads are in calls to Ray then that nothing interrupts; Python's way out would shut Ray down under them, which
    ends the process with another status. The store is closed by now; the rest ends with the process.
    """
    try:
        yield
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
        _leave(TERMINATED)
    except typer.Exit as end:
        if slots_are_left():
            _leave(end.exit_code)
        raise


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Signals:
    """Catches SIGINT and SIGTERM in the main thread; elsewhere it does nothing.

    While `watching`, the first one is only noted in `received`; a second Ctrl-C raises KeyboardInterrupt. Otherwise
    SIGINT raises KeyboardInterrupt and SIGTERM SystemExit, so that what is open is closed on the way out.
    """

    def __init__(self) -> None:
        self.watching = False
        self.received: signal.Signals | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.watching and self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        else:
            raise KeyboardInterrupt
