"""Confirm in this process, one training after another, without Ray and without Optuna; it leaves what confirm does."""

import time
from collections.abc import Sequence
from functools import partial

import torch
from rich.console import Console

from prunedlora.plain_print import print_plain
from prunedlora.results.driver_lock import DriverLock
from prunedlora.sweep.confirm_open import begin, open_confirmation
from prunedlora.sweep.confirm_plan import ConfirmError, Request
from prunedlora.sweep.here_progress import HereProgress
from prunedlora.sweep.here_run import HereRun, quiet, threads, try_trials
from prunedlora.sweep.signals import Signals
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache


def confirm_here(
    storage: str,
    request: Request,
    *,
    console: Console,
    device: torch.device,
    overrides: Sequence[str] = (),
    max_seconds: float | None = None,
) -> int:
    """As `confirm.confirm`. Raises ConfirmError too where trials take several workers, and as `run_here`."""
    began = time.monotonic()
    opened = open_confirmation(storage, request, overrides)
    store, resources = opened.store, opened.terms.resources
    if resources.num_workers > 1:
        raise ConfirmError(f"resources.num_workers {resources.num_workers}: this process is one, leave out --here")
    with DriverLock(store.storage, say=partial(print_plain, console)) as lock:
        begin(opened, console)
        asker = opened.asker()
        progress = HereProgress(console, opened.terms.quality, asker.num_kept + asker.num_left, asker.num_kept)
        run = HereRun(opened.terms, store, lock, asker, Workers(0, 1, device), AssetCache(device), progress)
        deadline = float("inf") if max_seconds is None else began + max_seconds
        if asker.num_left or opened.untested():
            with Signals() as signals, threads(resources.cpus_per_worker), quiet(), progress:
                run.ending = try_trials(run, signals, deadline)
                if run.ending == "all trials are done":
                    for point in opened.untested():
                        if problem := run.test(point, "a fresh adapter"):
                            run.problems.append(f"{point.name} was not tested: {problem}")
        return opened.conclude(run.ending, [*run.problems, *asker.problems], run.num_ended, console)
