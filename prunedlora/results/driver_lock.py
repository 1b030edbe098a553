"""DriverLock: one live driver per store, told by the heartbeat in driver.json.

A driver that died on this machine is replaced at once: its process is gone, or its number belongs to a process with
another start time. Of a driver on another machine only the heartbeat is known, and no two clocks agree: it is watched,
and counts as dead when it has not changed for `EXPIRY_SECONDS` by this process's own clock.

Each takeover raises the epoch. An epoch belongs to who creates its file in drivers/, so that of several that start at
the same moment one gets it; driver.json follows. Where two still wrote (one was asleep in between), the higher epoch
stays: its driver writes again, the other notices and ends. Writers of older epochs are refused by the store.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from prunedlora.results.driver import DRIVER_FILE, Driver, claim_path, read_driver, runs_here, this_driver
from prunedlora.results.record import RecordError, to_json
from prunedlora.results.storage import Storage, StoreError

EXPIRY_SECONDS = 60.0
SETTLE_SECONDS = 0.2
"""Time between writing and reading back, in which another driver that starts just now shows, where the storage cannot
say which of the two came first."""


class DriverLockedError(RuntimeError):
    """Another driver is alive; the message says who and where."""


def _silent(_: str) -> None:
    """Says nothing."""


class DriverLock:
    """Holds a store for this process while it is acquired; refreshes the heartbeat in a thread of its own."""

    def __init__(
        self, storage: Storage, expiry_seconds: float = EXPIRY_SECONDS, say: Callable[[str], None] = _silent
    ) -> None:
        """`say`: takes a line for people before a wait."""
        self._storage = storage
        self._expiry_seconds = expiry_seconds
        self._say = say
        self._driver: Driver | None = None
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def epoch(self) -> int:
        """The epoch held. Raises DriverLockedError when the lock is not held."""
        if self._driver is None:
            raise DriverLockedError(f"the lock of {self._storage.uri} is not held")
        return self._driver.epoch

    def acquire(self) -> int:
        """Takes the store and returns the new epoch; may watch for `expiry_seconds` whether a driver elsewhere lives.

        Raises DriverLockedError when another driver is alive, StoreError when the storage cannot be written,
        RecordError when driver.json is broken.
        """
        before = self.refuse_living()
        mine = self._claim(0 if before is None else before.epoch)
        if (now := read_driver(self._storage)) is not None and (before is None or now.token != before.token):
            raise DriverLockedError(f"{self._storage.uri}: another driver started at the same moment: {now}")
        self._storage.write_text(DRIVER_FILE, to_json(mine))
        if (later := read_driver(self._storage, claim_path(mine.epoch + 1))) is not None:
            raise DriverLockedError(f"{self._storage.uri}: another driver started at the same moment: {later}")
        self._driver, self._lost = mine, None
        self._stop.clear()
        self._thread = threading.Thread(target=self._refresh, name="driver-heartbeat", daemon=True)
        self._thread.start()
        return mine.epoch

    def refuse_living(self) -> Driver | None:
        """The last driver, which is dead or has ended; None where there was none. Writes nothing, and may watch for
        `expiry_seconds`. Raises DriverLockedError when it is alive, RecordError when driver.json is broken."""
        driver = read_driver(self._storage)
        if driver is not None and (living := self._living(driver)) is not None:
            raise DriverLockedError(
                f"{self._storage.uri} is driven by {living}, and a second driver is refused; end it first"
            )
        return driver

    def check(self) -> None:
        """Raises DriverLockedError when another driver has taken the store, or the lock is not held."""
        if self._lost is not None:
            raise DriverLockedError(f"{self._storage.uri} was taken over by {self._lost}")
        _ = self.epoch

    def release(self) -> None:
        """Lets the next driver in at once; the epoch stays on record. Nothing to do when the lock is not held."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._driver is not None and self._lost is None:
            current = read_driver(self._storage)
            if current is not None and current.token == self._driver.token:
                self._write_heartbeat(released=True)
        self._driver = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _claim(self, last: int) -> Driver:
        """This process as the driver of the first epoch after `last` that no living driver has."""
        epoch = last + 1
        while True:
            mine, path = this_driver(epoch), claim_path(epoch)
            if self._storage.create_text(path, to_json(mine)):
                if not self._storage.is_local:
                    time.sleep(SETTLE_SECONDS)
                other = read_driver(self._storage, path)
                if other is not None and other.token == mine.token:
                    return mine
            else:
                other = read_driver(self._storage, path)
            living = None if other is None else self._living(other)
            if other is None or living is not None:
                raise DriverLockedError(f"{self._storage.uri}: another driver started at the same moment: {living}")
            epoch += 1  # it died before it could say so in driver.json

    def _living(self, driver: Driver) -> Driver | None:
        """Who drives the store where this driver lives, None where it does not; one elsewhere is watched for."""
        if driver.released:
            return None
        if (here := runs_here(driver)) is not None:
            return driver if here else None
        self._say(
            f"The last driver of this store was {driver}, and did not say that it ended: waiting up to "
            f"{self._expiry_seconds:.0f} s to see whether it lives"
        )
        seen, end = read_driver(self._storage), time.monotonic() + self._expiry_seconds
        while time.monotonic() < end:
            time.sleep(min(1.0, self._expiry_seconds / 20))
            now = read_driver(self._storage)
            if now is not None and now != seen:
                return None if now.released else now
        return None

    def _refresh(self) -> None:
        while not self._stop.wait(self._expiry_seconds / 6):
            try:
                current = read_driver(self._storage)
                if self._driver is None or self._is_lost(current, self._driver):
                    self._lost = "nobody: driver.json is gone" if current is None else str(current)
                    return
                self._write_heartbeat()
            except StoreError:
                # A storage that is away for a moment: the next beat tries again, and expiry ends it if it stays away.
                continue
            except RecordError as error:
                self._lost = f"somebody who broke it: {error}"
                return

    @staticmethod
    def _is_lost(current: Driver | None, mine: Driver) -> bool:
        # One of an earlier epoch was asleep and wrote late: what it wrote is overwritten, and it sees that.
        return current is None or (current.token != mine.token and current.epoch >= mine.epoch)

    def _write_heartbeat(self, released: bool = False) -> None:
        if self._driver is not None:
            beat = self._driver.model_copy(update={"heartbeat": time.time(), "released": released})
            self._storage.write_text(DRIVER_FILE, to_json(beat))
