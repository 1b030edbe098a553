"""Several ranks of one training, each a process of its own."""

import faulthandler
import gc
import multiprocessing as mp
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

HEAVY = ["torch", "transformers", "peft", "pandas", "prunedlora.trial.execute"]
"""What every rank imports, longer than it then trains: seconds."""


def context() -> ForkServerContext:
    """Starts processes as clean as spawned ones: forks of a server that has only imported what all of them need, once
    for all tests of this process."""
    found = mp.get_context("forkserver")
    found.set_forkserver_preload(HEAVY)
    return found


LONGEST_SECONDS = 300
"""After which a rank that hangs says where, and ends with code 1."""


def _rank(work: Callable[..., None], rank: int, arguments: tuple[Any, ...]) -> None:
    gc.freeze()  # what was imported: a trial collects garbage several times (conftest.py)
    faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
    work(rank, *arguments)
    faulthandler.cancel_dump_traceback_later()


def run_ranks(work: Callable[..., None], num_ranks: int, *arguments: Any) -> list[int | None]:
    """Runs `work(rank, *arguments)` in a process for each rank; returns their exit codes, by rank."""
    processes = [context().Process(target=_rank, args=(work, rank, arguments)) for rank in range(num_ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]
