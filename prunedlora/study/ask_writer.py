"""AskWriter: asks and their records, written and read with patience, since a moment's trouble must end no sweep."""

import threading
from collections.abc import Callable
from typing import Any

from prunedlora.config.trial import TrialConfig
from prunedlora.results.ask import Ask, AskKind
from prunedlora.results.record import TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import AskTakenError, Store
from prunedlora.study.asked import Asked

RETRY_SECONDS = (1.0, 5.0, 20.0)
FOREVER = -1.0
"""No time-out, as threading.Lock has it."""


class AskWriter:
    """Writes asks until it is closed, which any thread may do."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closed = threading.Event()
        self._writing = threading.Lock()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def stop(self) -> None:
        """No write is begun any more; one that is in progress is not waited for."""
        self._closed.set()

    def close(self, timeout: float = FOREVER) -> bool:
        """From its return on nothing is written: another driver may follow. Waits up to `timeout` seconds for what is
        being written; False when that went on."""
        self.stop()
        if not self._writing.acquire(timeout=timeout):
            return False
        self._writing.release()
        return True

    def write(
        self,
        asked: Asked,
        key: str,
        trial: TrialConfig | None,
        part: dict[str, Any],
        *,
        kind: AskKind,
        label: str | None = None,
    ) -> Ask | None:
        """Writes the next ask, what its trial needs first, and adds it to `asked`; None when closed before.

        `trial`: None when there is none to run; `part`: params, distributions and system_attrs of the Ask. Raises
        StoreError when the storage stays out of reach, or another driver wrote an ask of this number.
        """
        if trial is not None:
            config = trial.model_dump(mode="json")
            self._patiently(lambda: self._store.write_config(key, config))
            if label is not None:
                self._patiently(lambda: self._store.write_label(key, label))
        ask = Ask(number=asked.next_number, key=key, kind=kind, **part)
        if not self._patiently(lambda: self._store.write_ask(ask)):
            return None
        asked.append(ask)
        return ask

    def read_record(self, key: str) -> TrialRecord | None:
        """The record of a trial that has ended; None when there is none after another look, or it was paused."""
        for seconds in RETRY_SECONDS:
            try:
                record = self._store.read_record(key)
            except StoreError:
                pass
            else:
                if record is not None or self.closed:
                    return record
            self._closed.wait(seconds)
        return self._store.read_record(key)

    def _patiently(self, write: Callable[[], None]) -> bool:
        """Whether it was written: not when closed before."""
        for seconds in RETRY_SECONDS:
            try:
                return self._written(write)
            except AskTakenError:  # by another driver: no patience helps
                raise
            except StoreError:
                pass
            self._closed.wait(seconds)
        return self._written(write)

    def _written(self, write: Callable[[], None]) -> bool:
        with self._writing:
            if not self.closed:
                write()
                return True
            return False
