"""Work in a thread: its result or its error comes out of the future, and a process that ends does not wait for it."""

import subprocess
import sys
import threading
from typing import NoReturn

import pytest

from prunedlora.background import in_background


def test_the_result_and_the_thread() -> None:
    assert in_background(lambda: threading.current_thread().name, "asking").result(10) == "asking"


def test_what_is_raised_in_it_is_raised_to_who_asks() -> None:
    """SystemExit too, which would end a thread without a word."""

    def leave() -> NoReturn:
        raise SystemExit(3)

    future = in_background(leave, "leaving")
    with pytest.raises(SystemExit, match="3"):
        future.result(10)


def test_the_process_does_not_wait_for_it() -> None:
    """A pool's threads are waited for: a storage that hangs would keep the process for good."""
    code = (
        "import threading\nfrom prunedlora.background import in_background\nin_background(threading.Event().wait, 'x')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
