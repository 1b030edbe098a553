"""A run on slots of a cluster: whoever hands out trials brings them, and what follows them is done by slots that wait
anyway. Sweeps run so, and confirmations."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from prunedlora.fleet import cluster
from prunedlora.fleet.answers import BoardLostError, answer
from prunedlora.fleet.board import Work, work_name
from prunedlora.fleet.capacity import num_fitting, num_slots
from prunedlora.fleet.package_sources import own_sources
from prunedlora.fleet.slot import Execute, SlotSettings
from prunedlora.fleet.slot_fit import RAY_FOLDER
from prunedlora.fleet.slots import Slots, SlotsLostError
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.store import Store
from prunedlora.sweep.device_hours import Meter
from prunedlora.sweep.judging import Judging
from prunedlora.sweep.outcome import EARLY, Ending
from prunedlora.sweep.progress import Progress
from prunedlora.sweep.signals import Signals
from prunedlora.sweep.slot_news import SlotNews
from prunedlora.sweep.terms import Terms, TrialSource
from prunedlora.sweep.watch import nothing_about, num_serving, watch

POLL_SECONDS = 0.5
PLACELESS_SECONDS = 600.0
"""So long base evaluation and test wait for a slot where none serves, before they are left to the next run."""
GROW_SECONDS = 5.0
"""Between two looks for nodes that have come."""
CLOSE_SECONDS = 60.0
"""Given to the slots to end by themselves, which takes them seconds. A thread that still waits for its slot when Ray is
shut down takes the whole process with it, exit status and all."""


@dataclass
class SlotRun:
    """What one run gathers."""

    terms: Terms
    store: Store
    lock: DriverLock
    asker: TrialSource
    console: Console
    deadline: float
    """By time.monotonic()."""
    execute: Execute | None
    """What a slot does with its work; None: it does it for real."""
    later: tuple[Work, ...] = ()
    """Work beside the trials that slots do while none waits; `finish` asks for its outcome."""
    judging: Judging | None = None
    """How trials are judged on the way; None: none is."""
    meter: Meter | None = None
    """Of device hours; None: they have no limit."""
    ending: Ending = "all trials are done"
    num_ended: int = 0
    startup_seconds: float = 0.0
    slots: dict[int, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def run_on_slots(run: SlotRun, signals: Signals, leaving: ExitStack, finish: Callable[["SlotEnd"], None]) -> None:
    """Slots and trials, then `finish` unless the run was ended early. Raises what `run_sweep` says.

    Leaves it to `leaving` to wait for the slots: Ray Train takes seconds to end a run, and the report need not wait.
    """
    resources, store, asker = run.terms.resources, run.store, run.asker
    at_first = num_slots(resources, cluster.nodes(), asker.num_left, may_grow=cluster.may_grow())
    judging = run.judging
    board = cluster.start_board(None if judging is None else judging.judge())
    slots = Slots(resources, store.storage)
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
    for work in run.later:
        answer(board.put_work.remote(work, later=True))
    progress = Progress(
        store,
        Objectives.parse(run.terms.objectives).with_servers(run.terms.serve_on),
        asker.num_kept + asker.num_left,
        run.console,
        asker.records,
    )
    news = SlotNews(progress)
    try:
        cluster.check_board(board)  # by now it has been made, beside the slots
        with progress:
            if asker.num_left:
                grow = _Growth(run, board, slots)
                about = nothing_about if judging is None else judging.about
                given = (board, asker, slots, run.lock, signals, progress, news, run.deadline, grow)
                run.ending = watch(*given, about, meter=run.meter)
            if run.ending not in EARLY:
                finish(SlotEnd(run, board, slots, progress, news))
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
class SlotEnd:
    """What the end of a run is done with."""

    run: SlotRun
    board: Any
    slots: Slots
    progress: Progress
    news: SlotNews

    def do(self, work: Work) -> str | None:
        """Has a slot do a piece of work; why it was not done, None: it was. Raises DriverLockedError."""
        answer(self.board.put_work.remote(work, later=False))
        return self.problem_of(work)

    def problem_of(self, work: Work) -> str | None:
        """The same of work that was put on the board before."""
        outcome = _wait_for(self, work)
        return None if outcome == "completed" else outcome


def _wait_for(end: SlotEnd, work: Work) -> str:
    """How it ended, or why nobody does it: what the trials found is told all the same.

    Raises DriverLockedError when another driver took over.
    """
    served_at = time.monotonic()
    while True:
        outcome = answer(end.board.outcome.remote(work_name(work), POLL_SECONDS))
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
        if now > end.run.deadline and all(slot["work"] != work for slot in snapshot["slots"].values()):
            return "the time is up, and no slot was free for it; the same command goes on with it"


class _Growth:
    """Opens slots where nodes have come that have room for more, unless the number of slots is given."""

    def __init__(self, run: SlotRun, board: Any, slots: Slots) -> None:
        self._run = run
        self._board = board
        self._slots = slots
        self._looked_at = time.monotonic()

    def __call__(self) -> None:
        resources, asker = self._run.terms.resources, self._run.asker
        now = time.monotonic()
        if resources.num_slots is not None or now - self._looked_at < GROW_SECONDS:
            return
        self._looked_at = now
        # A slot that was closed counts: its place is free, and no better than before.
        wanted = min(num_fitting(resources, cluster.nodes()), asker.num_left)
        for slot in range(self._slots.num_opened, wanted):
            self._slots.open(_settings(self._run, self._board, slot))


def _settings(run: SlotRun, board: Any, slot: int) -> SlotSettings:
    return SlotSettings(
        slot=slot,
        store_uri=run.store.uri,
        epoch=run.lock.epoch,
        board=board,
        cpus_per_worker=run.terms.resources.cpus_per_worker,
        folder=os.getcwd(),
        sources=own_sources(),
        base_trial=run.terms.trial.model_dump(mode="json"),
        max_attempts=run.terms.max_attempts,
        keep_checkpoints=run.terms.retention.checkpoints == "always",
        checkpoint_every_steps=run.terms.retention.checkpoint_every_steps,
        checkpoint_every_seconds=run.terms.retention.checkpoint_every_seconds,
        stopping=None if run.judging is None else run.judging.stopping,
        execute=run.execute,
    )
