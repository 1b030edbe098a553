"""Signals: Ctrl-C and `ray job stop` end a sweep cleanly while it is watched, and at once before and after."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

TERMINATED = 128 + signal.SIGTERM


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
