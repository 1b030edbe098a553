"""The way out of a process that ran sweeps: with its own status, whatever still hangs."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import typer
from prunedlora.fleet.slot_thread import SlotThread
from prunedlora.sweep.signals import TERMINATED, leaving_at_once

if {hangs}:
    SlotThread(target=threading.Event().wait).start()  # no daemon: Python's way out would wait for it for ever
with leaving_at_once():
    print("the report")
    raise {end}
"""


@pytest.mark.parametrize(
    ("hangs", "end", "status"),
    [(True, "typer.Exit(0)", 0), (True, "typer.Exit(130)", 130), (True, "SystemExit(TERMINATED)", 143),
     (False, "SystemExit(3)", 3)],
)  # fmt: skip
def test_a_command_ends_with_its_own_status(hangs: bool, end: str, status: int) -> None:
    program = PROGRAM.format(hangs=hangs, end=end)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (status, "the report\n", "")
