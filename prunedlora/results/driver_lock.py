"""DriverLock: one live driver per store, told by the heartbeat in driver.json.

A driver that died on this machine is replaced at once: its process is gone, or its number belongs to a process with
another start time. Of a driver on another machine only the heartbeat is known, so it counts as dead when that is too
old. Each takeover raises the epoch, and writers of older epochs are refused by the store.
"""

import os
import secrets
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import Field

from prunedlora.results.record import Document, RecordError, from_json, to_json
from prunedlora.results.storage import Storage, StoreError

EXPIRY_SECONDS = 60.0
SETTLE_SECONDS = 0.2
"""Time between writing driver.json and reading it back, in which another driver that starts just now shows."""


class DriverLockedError(RuntimeError):
    """Another driver is alive; the message says who, where, and when it would count as dead."""


class Driver(Document):
    """The content of driver.json. Times are seconds since 1970 by the driver's clock."""

    epoch: int = Field(ge=1)
    """Raised by every driver that takes the store."""
    token: str
    """Tells drivers apart that take the same epoch at the same moment."""
    host: str
    machine: str
    """Boot and process namespace in which `pid` means something; empty where the system does not tell."""
    pid: int
    process_start: str
    """Start of the process in ticks since boot; empty where the system does not tell."""
    started: float
    heartbeat: float
    released: bool = False
    """Whether the driver ended by itself."""


class DriverLock:
    """Holds a store for this process while it is acquired; refreshes the heartbeat in a thread of its own."""

    def __init__(self, storage: Storage, expiry_seconds: float = EXPIRY_SECONDS) -> None:
        self._storage = storage
        self._expiry_seconds = expiry_seconds
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
        """Takes the store and returns the new epoch.

        Raises DriverLockedError when another driver is alive, StoreError when the storage cannot be written,
        RecordError when driver.json is broken.
        """
        before = read_driver(self._storage)
        if before is not None:
            self._refuse_living(before)
        now = time.time()
        self._driver = Driver(
            epoch=1 if before is None else before.epoch + 1,
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            process_start=_process_start(os.getpid()) or "",
            started=now,
            heartbeat=now,
        )
        self._lost = None
        self._storage.write_text("driver.json", to_json(self._driver))
        time.sleep(SETTLE_SECONDS)
        winner = read_driver(self._storage)
        if winner is None or winner.token != self._driver.token:
            self._driver = None
            raise DriverLockedError(f"{self._storage.uri}: another driver started at the same moment: {_who(winner)}")
        self._stop.clear()
        self._thread = threading.Thread(target=self._refresh, name="driver-heartbeat", daemon=True)
        self._thread.start()
        return self._driver.epoch

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

    def _refresh(self) -> None:
        while not self._stop.wait(self._expiry_seconds / 6):
            try:
                current = read_driver(self._storage)
                if current is None or self._driver is None or current.token != self._driver.token:
                    self._lost = _who(current)
                    return
                self._write_heartbeat()
            except StoreError:
                # A storage that is away for a moment: the next beat tries again, and expiry ends it if it stays away.
                continue
            except RecordError as error:
                self._lost = f"somebody who broke it: {error}"
                return

    def _write_heartbeat(self, released: bool = False) -> None:
        if self._driver is not None:
            beat = self._driver.model_copy(update={"heartbeat": time.time(), "released": released})
            self._storage.write_text("driver.json", to_json(beat))

    def _refuse_living(self, driver: Driver) -> None:
        if driver.released:
            return
        alive = _is_alive_here(driver)
        if alive is False:
            return
        expires = driver.heartbeat + self._expiry_seconds
        if alive is None and time.time() >= expires:
            return
        end = "it runs on this machine: end it first" if alive else f"it counts as dead at {_clock(expires)}"
        raise DriverLockedError(f"{self._storage.uri} is driven by {_who(driver)}; {end}, then run the command again")


def read_driver(storage: Storage) -> Driver | None:
    """The last driver of a store, None when it never had one. Raises RecordError when driver.json is broken."""
    text = storage.read_text("driver.json")
    return None if text is None else from_json(Driver, text, storage.uri_of("driver.json"))


def _who(driver: Driver | None) -> str:
    if driver is None:
        return "nobody: driver.json is gone"
    return (
        f"process {driver.pid} on {driver.host} (epoch {driver.epoch}, since {_clock(driver.started)}, "
        f"heartbeat {_clock(driver.heartbeat)})"
    )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _is_alive_here(driver: Driver) -> bool | None:
    """Whether the process still runs; None when that cannot be told from this machine."""
    if driver.host != socket.gethostname() or driver.machine != _machine():
        return None
    if driver.process_start:
        return _process_start(driver.pid) == driver.process_start
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    return None


def _machine() -> str:
    """Boot id and process namespace: containers of one host may share its name, and process numbers begin anew."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Start of a living process in ticks since boot (proc(5), field 22); None when there is no such process.

    A zombie, killed but not yet waited for, does not live.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command in parentheses may itself hold spaces and parentheses.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]
