"""Follower: keeps something outside the store up to date while a sweep runs, in a thread of its own, so that what is
slow or broken there delays and breaks nothing here."""

import threading
import time
from collections.abc import Callable

EVERY_SECONDS = 5.0
BUSY_SHARE = 0.1
"""Of the time at most is spent with following."""
RETRY_SECONDS = 60.0
"""After a failure."""
LAST_SECONDS = 30.0
"""Given to the last round, at the end of the sweep."""


class Follower:
    """Begins with its making; `close` ends it."""

    def __init__(self, what: str, follow: Callable[[], None], say: Callable[[str], None]) -> None:
        """`what` is kept up to date by `follow`, called again and again and once more at the end. Of its failures the
        first is told, by `say`, until it has worked again."""
        self._what = what
        self._follow = follow
        self._say = say
        self._closing = threading.Event()
        self._is_behind = False
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._thread.start()

    def close(self, timeout: float = LAST_SECONDS) -> None:
        """Follows once more, and waits for that up to `timeout` seconds; says so where it came to nothing."""
        self._closing.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._say(f"Warning: {self._what} had not the end of the sweep in {timeout:g} s: it is left behind")

    def _run(self) -> None:
        is_last = False
        while True:
            began = time.monotonic()
            works = self._try()
            if is_last:
                return
            seconds = max(EVERY_SECONDS, (time.monotonic() - began) / BUSY_SHARE) if works else RETRY_SECONDS
            is_last = self._closing.wait(seconds)

    def _try(self) -> bool:
        try:
            self._follow()
        except Exception as error:  # whatever it is, what is outside must not end the sweep
            if not self._is_behind:
                self._say(
                    f"Warning: {type(error).__name__}: {error}. The sweep goes on without {self._what}, which is tried "
                    f"again every {RETRY_SECONDS:g} s"
                )
            self._is_behind = True
            return False
        if self._is_behind:
            self._say(f"{self._what} is up to date again")
        self._is_behind = False
        return True
