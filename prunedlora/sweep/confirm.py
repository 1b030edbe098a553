"""Confirm on the slots of a cluster: adapters that were chosen, trained again with fresh seeds, into the same store.

Everything that must survive a killed driver is in the store; run the same command again and it goes on.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from rich.console import Console

from prunedlora.fleet import cluster
from prunedlora.fleet.address import check_address
from prunedlora.fleet.slot import Execute
from prunedlora.plain_print import print_plain
from prunedlora.results.driver_lock import DriverLock
from prunedlora.sweep.confirm_open import Confirming, begin, open_confirmation
from prunedlora.sweep.confirm_plan import Request
from prunedlora.sweep.signals import Signals
from prunedlora.sweep.slot_run import SlotEnd, SlotRun, run_on_slots


def confirm(
    storage: str,
    request: Request,
    *,
    console: Console,
    overrides: Sequence[str] = (),
    max_seconds: float | None = None,
    execute: Execute | None = None,
) -> int:
    """Confirms, or goes on with it; returns the status for the shell. `overrides`: of resources and retention;
    `execute`: as for `run_sweep`. Raises as `open_confirmation` and `run_sweep`."""
    began = time.monotonic()
    check_address()
    opened = open_confirmation(storage, request, overrides)
    store = opened.store
    with DriverLock(store.storage, say=partial(print_plain, console)) as lock, ExitStack() as leaving:
        begin(opened, console)
        asker = opened.asker()
        deadline = began + max_seconds if max_seconds is not None else float("inf")
        run = SlotRun(opened.terms, store, lock, asker, console, deadline, execute)
        if asker.num_left or opened.untested():
            leaving.enter_context(cluster.connected())
            with Signals() as signals:
                run_on_slots(run, signals, leaving, partial(_finish, opened))
        return opened.conclude(run.ending, [*run.problems, *asker.problems], run.num_ended, console)


def _finish(opened: Confirming, end: SlotEnd) -> None:
    """Test figures of the fresh adapters, by slots that wait anyway."""
    for point in opened.untested():
        if problem := end.do({"kind": "test", "key": point.key, "candidate": point.candidate.name}):
            end.run.problems.append(f"{point.name} was not tested: {problem}")
