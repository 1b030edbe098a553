"""Driver: who drives a store, as driver.json says it, and whether its process still runs."""

import os
import secrets
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from prunedlora.results.record import Document, from_json
from prunedlora.results.storage import Storage

DRIVER_FILE = "driver.json"


class Driver(Document):
    """The content of driver.json. Times are seconds since 1970 by the driver's clock, for people: no two clocks agree,
    so nothing is decided by them."""

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

    def __str__(self) -> str:
        return (
            f"process {self.pid} on {self.host} (epoch {self.epoch}, since {_clock(self.started)}, "
            f"heartbeat {_clock(self.heartbeat)})"
        )


def this_driver(epoch: int) -> Driver:
    """This process as the driver of an epoch."""
    now = time.time()
    return Driver(
        epoch=epoch,
        token=secrets.token_hex(8),
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        process_start=process_start(os.getpid()) or "",
        started=now,
        heartbeat=now,
    )


def claim_path(epoch: int) -> str:
    """Where the driver of an epoch says that it took it."""
    return f"drivers/{epoch:06d}.json"


def read_driver(storage: Storage, path: str = DRIVER_FILE) -> Driver | None:
    """The last driver of a store, None when it never had one. Raises RecordError when its file is broken."""
    text = storage.read_awaited_text(path)
    return None if text is None else from_json(Driver, text, storage.uri_of(path))


def runs_here(driver: Driver) -> bool | None:
    """Whether the process still runs; None when that cannot be told from this machine."""
    if driver.host != socket.gethostname() or driver.machine != _machine():
        return None
    if driver.process_start:
        return process_start(driver.pid) == driver.process_start
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None
    return None


def process_start(pid: int) -> str | None:
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


def _machine() -> str:
    """Boot id and process namespace: containers of one host may share its name, and process numbers begin anew."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
