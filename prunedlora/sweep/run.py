"""A sweep from its configuration to its report: opens the store, starts slots and search, watches, finishes.

Everything that must survive a killed driver is in the store; run the same command again and it goes on.
"""

import json
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from prunedlora.config.identity import KEY_VERSION, contents
from prunedlora.config.sweep import SweepConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.answers import BoardLostError, answer
from prunedlora.fleet.capacity import num_slots
from prunedlora.fleet.slot import Execute, SlotSettings
from prunedlora.fleet.slots import RAY_FOLDER, Slots
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.importances_document import write_importances
from prunedlora.results.report.report import write_report
from prunedlora.results.report.tables import print_report
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.study.importances import find_importances
from prunedlora.sweep.bind import bind_data, commits_of
from prunedlora.sweep.findings import NOTHING_FOUND, Findings
from prunedlora.sweep.finish import base_work, drop_dominated, export_recommended, missing_test
from prunedlora.sweep.preflight import every_trial, preflight
from prunedlora.sweep.progress import Progress
from prunedlora.sweep.signals import Signals
from prunedlora.sweep.watch import Ending, watch

POLL_SECONDS = 0.5
CLOSE_SECONDS = 60.0
"""Given to the slots to end by themselves, which takes them seconds. A thread that still waits for its slot when Ray is
shut down takes the whole process with it, exit status and all."""
STATS_FILE = "sweep_stats.json"


@dataclass(frozen=True)
class SweepResult:
    """What one run of a sweep did. Times are wall-clock seconds of this run."""

    summary: Summary
    ending: Ending
    num_kept: int
    """Trials with a record from earlier runs."""
    num_resumed: int
    """Trials asked in earlier runs that had still to end when this one began."""
    num_new: int
    """Trials that this run ended beside those."""
    num_failed: int
    """Failed trials among all."""
    startup_seconds: float
    """From the start of the slots until the last was ready; 0 when none was needed."""
    wall_seconds: float
    problems: tuple[str, ...]
    """What went wrong beside the trials."""

    @property
    def exit_code(self) -> int:
        """Status for the shell: 0, 1 when no trial succeeded or something beside the trials failed, 130 interrupted."""
        if self.ending == "interrupted":
            return 130
        unfinished = self.ending == "the time is up"
        return int(bool(self.problems) or not (self.summary.points or unfinished))


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
    num_ended: int = 0
    startup_seconds: float = 0.0
    slots: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


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
        CapacityError: a slot does not fit on the cluster.
        SlotsLostError: no slot could be kept running.
        and what `preflight` finds wrong with models and data.
    """
    began = time.monotonic()
    cluster.check_storage(storage)
    store = Store(storage)
    tree = config.model_copy(update={"storage": store.uri}).model_dump(mode="json")
    names = contents(every_trial(config))
    store.check_key_version(KEY_VERSION)
    store.check_contents(names)
    commits = commits_of(config, store)
    found = NOTHING_FOUND
    if not store.check(tree):
        found = preflight(config, commits)  # before the store is that of a sweep that cannot run
    is_new = store.create_or_open(tree)
    with DriverLock(store.storage) as lock, ExitStack() as leaving:
        if not is_new:
            store.write_sweep(tree)
        store.write_key_version(KEY_VERSION)
        store.write_contents(names)
        store.write_commits(commits)
        if command:
            store.write_command(_typed(command))
        asker = Asker(config, store, retry_failed=retry_failed)
        asker.relabel(lock.epoch)
        deadline = began + max_seconds if max_seconds is not None else float("inf")
        run = _Run(config, store, lock, asker, console, deadline, execute)
        if not is_new and asker.num_left:
            found = preflight(config, commits)
        _warn(found, console)
        bind_data(store, found.fingerprints)
        if asker.num_left or store.read_base() is None or missing_test(store) is not None:
            leaving.enter_context(cluster.connected())
            with Signals() as signals:
                _run_on_cluster(run, signals, leaving)
        if config.retention.adapters == "front" and run.ending != "interrupted":
            drop_dominated(summarize(store), lock.epoch)
        if asker.exhausted:
            run.ending = "the space is exhausted"
        write_importances(store, find_importances(store, config.objectives))
        result = SweepResult(
            summary=write_report(store),
            ending=run.ending,
            num_kept=asker.num_kept,
            num_resumed=asker.num_resumed,
            num_new=max(0, run.num_ended - asker.num_resumed),
            num_failed=sum(record.status == "failed" for record in store.records()),
            startup_seconds=run.startup_seconds,
            wall_seconds=time.monotonic() - began,
            problems=tuple(run.problems),
        )
        _write_stats(run, result)
        _show(result, console)
    return result


def _run_on_cluster(run: _Run, signals: Signals, leaving: ExitStack) -> None:
    """Slots and search, then base reference and test; raises what `run_sweep` says.

    Leaves it to `leaving` to wait for the slots: Ray Train takes 12 s to end a run, and the report need not wait.
    """
    config, store, asker = run.config, run.store, run.asker
    asker.num_slots = num_slots(config.resources, cluster.nodes(), asker.num_left)
    board = cluster.start_board()
    slots = Slots([_settings(run, board, slot) for slot in range(asker.num_slots)], config.resources, store.storage)
    started = time.time()
    slots.start()

    def wait_for_slots(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not SystemExit:  # terminated: there is no time, and what is left ends with the driver
            if slots.running:
                run.console.print("The slots end …", highlight=False)
            slots.close(CLOSE_SECONDS)
            store.delete_folder(RAY_FOLDER)

    leaving.push(wait_for_slots)
    if store.read_base() is None:
        answer(board.put_work.remote(base_work(), later=True))
    progress = Progress(
        store, Objectives.parse(config.objectives), asker.num_kept + asker.num_left, asker.num_slots, run.console
    )
    try:
        with progress:
            if asker.num_left:
                run.ending = watch(board, asker, slots, run.lock, signals, progress, run.deadline)
            if run.ending not in ("interrupted", "the time is up"):
                _finish(run, board, slots)
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
    joined = [slot["joined_at"] - started for slot in run.slots.values() if slot["joined_at"]]
    run.startup_seconds = max(joined, default=0.0)
    run.problems += [f"slot {slot} was given up: {reason}" for slot, reason in sorted(slots.errors.items())]


def _finish(run: _Run, board: Any, slots: Slots) -> None:
    """The base model's figures, and test figures and a copy of the recommended adapter, by slots that wait anyway."""
    if run.store.read_base() is None:
        outcome = _wait_for(board, "base", slots)
        if outcome != "completed":
            run.problems.append(f"the base model was not evaluated: {outcome}")
    work = missing_test(run.store)
    if work is not None:
        answer(board.put_work.remote(work, later=False))
        outcome = _wait_for(board, "test", slots)
        if outcome == "completed":
            export_recommended(run.store, work)
        else:
            run.problems.append(f"the recommended adapter was not tested and not exported: {outcome}")


def _wait_for(board: Any, kind: str, slots: Slots) -> str:
    while True:
        outcome = answer(board.outcome.remote(kind, POLL_SECONDS))
        if outcome is not None:
            return str(outcome)
        slots.check()


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
        execute=run.execute,
    )


def _warn(found: Findings, console: Console) -> None:
    for warning in found.warnings:
        print_plain(console, f"Warning: {warning}")


def _typed(argv: Sequence[str]) -> str:
    """A process's arguments as one types them: a script with its interpreter, a program by its name."""
    program = ["python", argv[0]] if argv[0].endswith(".py") else [os.path.basename(argv[0])]
    return shlex.join([*program, *argv[1:]])


def _write_stats(run: _Run, result: SweepResult) -> None:
    """Figures of the run for the benchmark: how long, how busy each slot was."""
    stats = {
        "ending": result.ending,
        "num_kept": result.num_kept,
        "num_resumed": result.num_resumed,
        "num_new": result.num_new,
        "num_failed": result.num_failed,
        "num_slots": run.asker.num_slots,
        "startup_seconds": result.startup_seconds,
        "wall_seconds": result.wall_seconds,
        "slots": [
            {
                "busy_seconds": slot["busy_seconds"],
                "num_finished": slot["num_finished"],
                "available_seconds": time.time() - slot["joined_at"] if slot["joined_at"] else 0.0,
            }
            for slot in run.slots.values()
        ],
    }
    run.store.storage.write_text(STATS_FILE, json.dumps(stats, indent=1) + "\n")


def _show(result: SweepResult, console: Console) -> None:
    print_report(result.summary, console)
    lines = [
        f"Trials: {result.num_kept} kept, {result.num_resumed} resumed, {result.num_new} new, "
        f"{result.num_failed} failed; {result.ending}. {result.wall_seconds:.0f} s, "
        f"of which {result.startup_seconds:.0f} s start of the slots.",
        *(f"Problem: {problem}" for problem in result.problems),
    ]
    if result.ending in ("interrupted", "the time is up"):
        lines.append("Run the same command again to go on.")
    for line in lines:
        print_plain(console, line)
