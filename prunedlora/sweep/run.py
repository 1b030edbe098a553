"""A sweep from its configuration to its report: opens the store, starts slots and search, watches, finishes.

Everything that must survive a killed driver is in the store; run the same command again and it goes on.
"""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from prunedlora.config.sweep import SweepConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.address import check_address
from prunedlora.fleet.answers import BoardLostError, answer
from prunedlora.fleet.board import Work
from prunedlora.fleet.capacity import num_fitting, num_slots
from prunedlora.fleet.slot import Execute, SlotSettings
from prunedlora.fleet.slots import RAY_FOLDER, Slots, SlotsLostError
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.importances_document import write_importances
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.study.importances import find_importances
from prunedlora.sweep.conclusion import Conclusion, conclude
from prunedlora.sweep.finish import drop_dominated, export_recommended, missing_test
from prunedlora.sweep.opening import Opening
from prunedlora.sweep.outcome import Ending, SweepResult
from prunedlora.sweep.progress import Progress
from prunedlora.sweep.signals import Signals
from prunedlora.sweep.slot_news import SlotNews
from prunedlora.sweep.watch import num_serving, watch

BASE_WORK: Work = {"kind": "base", "key": "", "candidate": ""}
POLL_SECONDS = 0.5
PLACELESS_SECONDS = 600.0
"""So long base evaluation and test wait for a slot where none serves, before they are left to the next run."""
GROW_SECONDS = 5.0
"""Between two looks for nodes that have come."""
CLOSE_SECONDS = 60.0
"""Given to the slots to end by themselves, which takes them seconds. A thread that still waits for its slot when Ray is
shut down takes the whole process with it, exit status and all."""


@dataclass
class _Run:
    """What one run of a sweep gathers."""

    config: SweepConfig
    store: Store
    lock: DriverLock
    asker: Asker
    console: Console
    deadline: float
    execute: Execute | None
    ending: Ending = "all trials are done"
    records: list[TrialRecord] | None = None
    """All of the store's, once nothing trains any more."""
    num_ended: int = 0
    startup_seconds: float = 0.0
    slots: dict[int, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> Summary:
        """When nothing trains any more: the records, which there may be thousands of, are read once."""
        if self.records is None:
            self.records = self.store.records()
        return summarize(self.store, records=self.records)


def run_sweep(
    config: SweepConfig,
    storage: str,
    *,
    console: Console,
    command: Sequence[str] = (),
    max_seconds: float | None = None,
    retry_failed: bool = False,
    execute: Execute | None = None,
) -> SweepResult:
    """Runs a sweep, or goes on with one, and leaves records, report and the recommended adapter in its store.

    Args:
        storage: path or URI of the store; it replaces the one in `config`.
        command: the process's arguments (sys.argv), shown in the report as the way to get the sweep again.
        max_seconds: end cleanly after this time; trials in training keep a checkpoint for the next run.
        retry_failed: train trials again whose record says failed.
        execute: what a slot does with its work; None trains for real (tests of the plumbing put something else).

    Raises:
        StoreError: the storage cannot be written, or holds something else.
        RecordError: a document in the store is broken.
        DriverLockedError: another driver runs this sweep.
        ClusterError: no Ray can be joined or started.
        CapacityError: a slot does not fit on the cluster.
        SlotsLostError: no slot could be kept running.
        and what `preflight` finds wrong with models and data.
    """
    began = time.monotonic()
    opening = Opening(config, storage)
    if opening.is_new:
        check_address()  # before models and data are looked at
    opening.create()
    store = opening.store
    with opening.lock(console) as lock, ExitStack() as leaving:
        opening.bind(command)
        asker = Asker(config, store, retry_failed=retry_failed)
        asker.relabel(lock.epoch)
        deadline = began + max_seconds if max_seconds is not None else float("inf")
        run = _Run(config, store, lock, asker, console, deadline, execute)
        opening.check(console, something_is_left=asker.num_left > 0)
        if asker.num_left or store.read_base() is None or missing_test(run.summary()) is not None:
            leaving.enter_context(cluster.connected())
            with Signals() as signals:
                _run_on_cluster(run, signals, leaving)
        if config.retention.adapters == "front" and run.ending != "interrupted":
            run.records = drop_dominated(run.summary(), lock.epoch)
        if asker.exhausted and run.ending == "all trials are done":
            run.ending = "the space is exhausted"
        summary = run.summary()
        if config.num_trials > 0:
            write_importances(store, find_importances(summary.asks, summary.records, config.objectives))
        slots = run.slots.values()
        end = Conclusion(began, run.ending, asker, run.num_ended, run.startup_seconds, run.problems, slots)
        return conclude(summary, end, console)


def _run_on_cluster(run: _Run, signals: Signals, leaving: ExitStack) -> None:
    """Slots and search, then base reference and test; raises what `run_sweep` says.

    Leaves it to `leaving` to wait for the slots: Ray Train takes 12 s to end a run, and the report need not wait.
    """
    config, store, asker = run.config, run.store, run.asker
    at_first = num_slots(config.resources, cluster.nodes(), asker.num_left, may_grow=cluster.may_grow())
    board = cluster.start_board()
    slots = Slots(config.resources, store.storage)
    started = time.time()
    for slot in range(at_first):
        slots.open(_settings(run, board, slot))

    def wait_for_slots(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not SystemExit:  # terminated: there is no time, and what is left ends with the driver
            if slots.running:
                run.console.print("The slots end …", highlight=False)
            slots.close(CLOSE_SECONDS)
            store.delete_folder(RAY_FOLDER)

    leaving.push(wait_for_slots)
    if store.read_base() is None:
        answer(board.put_work.remote(BASE_WORK, later=True))
    progress = Progress(
        store,
        Objectives.parse(config.objectives),
        asker.num_kept + asker.num_left,
        run.console,
        asker.records,
    )
    news = SlotNews(progress)
    try:
        with progress:
            if asker.num_left:
                grow = _Growth(run, board, slots)
                run.ending = watch(board, asker, slots, run.lock, signals, progress, news, run.deadline, grow)
            if run.ending not in ("interrupted", "the time is up"):
                _finish(_End(run, board, slots, progress, news))
    except BaseException:
        with suppress(BoardLostError):  # the board may be gone with Ray: what goes on is the error to tell
            answer(board.close.remote())
        slots.close(0.0)
        raise
    snapshot = answer(board.snapshot.remote())
    answer(board.close.remote())
    slots.close(0.0)
    run.num_ended = sum(status != "paused" for status in snapshot["ended"].values())
    run.slots = snapshot["slots"]
    begun = [slot for number, slot in snapshot["slots"].items() if number < at_first and slot["joined_at"]]
    run.startup_seconds = max((slot["joined_at"] - started for slot in begun if not slot["num_waits"]), default=0.0)
    run.problems += [text for _, text in sorted(slots.closed.items())]


@dataclass(frozen=True)
class _End:
    """What the end of a sweep is done with."""

    run: _Run
    board: Any
    slots: Slots
    progress: Progress
    news: SlotNews


def _finish(end: _End) -> None:
    """The base model's figures, and test figures and a copy of the recommended adapter, by slots that wait anyway."""
    run = end.run
    if run.store.read_base() is None:
        outcome = _wait_for(end, "base")
        if outcome != "completed":
            run.problems.append(f"the base model was not evaluated: {outcome}")
    untested = missing_test(run.summary())
    if untested is not None:
        key, name = untested.key, untested.candidate.name
        work: Work = {"kind": "test", "key": key, "candidate": name}
        answer(end.board.put_work.remote(work, later=False))
        outcome = _wait_for(end, "test")
        if outcome == "completed":
            export_recommended(run.store, key, name)
        else:
            run.problems.append(f"the recommended adapter was not tested and not exported: {outcome}")


def _wait_for(end: _End, kind: str) -> str:
    """How it ended, or why nobody does it: what the trials found is told all the same.

    Raises DriverLockedError when another driver took over.
    """
    served_at = time.monotonic()
    while True:
        outcome = answer(end.board.outcome.remote(kind, POLL_SECONDS))
        if outcome is not None:
            return str(outcome)
        snapshot = answer(end.board.snapshot.remote())
        end.news.tell(snapshot, end.slots)
        end.progress.update(snapshot)
        end.run.lock.check()
        try:
            end.slots.check()
        except SlotsLostError as error:
            return str(error)
        now = time.monotonic()
        served_at = now if num_serving(snapshot) else served_at
        if now > served_at + PLACELESS_SECONDS:
            return f"no slot had a place for {PLACELESS_SECONDS:g} s; the same command goes on with it"
        works = [slot["work"] for slot in snapshot["slots"].values()]
        if now > end.run.deadline and all(work is None or work["kind"] != kind for work in works):
            return "the time is up, and no slot was free for it; the same command goes on with it"


class _Growth:
    """Opens slots where nodes have come that have room for more, unless the number of slots is given."""

    def __init__(self, run: _Run, board: Any, slots: Slots) -> None:
        self._run = run
        self._board = board
        self._slots = slots
        self._looked_at = time.monotonic()

    def __call__(self) -> None:
        resources, asker = self._run.config.resources, self._run.asker
        now = time.monotonic()
        if resources.num_slots is not None or now - self._looked_at < GROW_SECONDS:
            return
        self._looked_at = now
        # A slot that was closed counts: its place is free, and no better than before.
        wanted = min(num_fitting(resources, cluster.nodes()), asker.num_left)
        for slot in range(self._slots.num_opened, wanted):
            self._slots.open(_settings(self._run, self._board, slot))


def _settings(run: _Run, board: Any, slot: int) -> SlotSettings:
    return SlotSettings(
        slot=slot,
        store_uri=run.store.uri,
        epoch=run.lock.epoch,
        board=board,
        cpus_per_worker=run.config.resources.cpus_per_worker,
        folder=os.getcwd(),
        base_trial=run.config.trial.model_dump(mode="json"),
        max_attempts=run.config.max_attempts,
        keep_checkpoints=run.config.retention.checkpoints == "always",
        checkpoint_every_steps=run.config.retention.checkpoint_every_steps,
        checkpoint_every_seconds=run.config.retention.checkpoint_every_seconds,
        execute=run.execute,
    )
