"""Asking: a question to the sampler in a thread of its own, so that whoever hands out trials need not wait for it."""

import threading
from collections.abc import Callable

from prunedlora.results.ask import Ask


class Asking(threading.Thread):
    """Begins at once. It is left behind when the process ends: what it has not written by then is asked again."""

    def __init__(self, search: Callable[[], Ask | None]) -> None:
        super().__init__(name="asking", daemon=True)
        self._search = search
        self._ask: Ask | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._ask = self._search()
        except BaseException as error:  # raised again by `result`
            self._error = error

    def result(self) -> Ask | None:
        """Waits for the answer. Raises what the search raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._ask
