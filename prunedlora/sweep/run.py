"""A sweep from its configuration to its report: opens the store, starts slots and search, watches, finishes.

Everything that must survive a killed driver is in the store; run the same command again and it goes on.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Console

from prunedlora.config.sweep import SweepConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.address import check_address
from prunedlora.fleet.board import Work
from prunedlora.fleet.slot import Execute
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.importances_document import write_importances
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.study.importances import find_importances
from prunedlora.sweep.conclusion import Conclusion, conclude
from prunedlora.sweep.device_hours import check_device_hours, meter_of
from prunedlora.sweep.finish import drop_dominated, finish_recommended, is_recommended_left
from prunedlora.sweep.judging import Judging
from prunedlora.sweep.opening import Opening
from prunedlora.sweep.outcome import SweepResult
from prunedlora.sweep.second_chance import SecondChance
from prunedlora.sweep.seen_elsewhere import check_elsewhere, seen_elsewhere
from prunedlora.sweep.signals import Signals
from prunedlora.sweep.slot_run import SlotEnd, SlotRun, run_on_slots
from prunedlora.sweep.warm_start_store import keep_warm_start, replaced_lines, settle_warm_start

BASE_WORK: Work = {"kind": "base", "key": "", "candidate": ""}


class _Records:
    """All of the store's, once nothing trains any more: there may be thousands of them, and they are read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.known: list[TrialRecord] | None = None

    def summary(self) -> Summary:
        if self.known is None:
            self.known = self._store.records()
        return summarize(self._store, records=self.known)


def run_sweep(
    config: SweepConfig,
    storage: str,
    *,
    console: Console,
    command: Sequence[str] = (),
    max_seconds: float | None = None,
    retry_failed: bool = False,
    warm_start: Sequence[str] = (),
    execute: Execute | None = None,
) -> SweepResult:
    """Runs a sweep, or goes on with one, and leaves records, report and the recommended adapter in its store.

    Args:
        storage: path or URI of the store; it replaces the one in `config`.
        command: the process's arguments (sys.argv), shown in the report as the way to get the sweep again.
        max_seconds: end cleanly after this time; trials in training keep a checkpoint for the next run.
        retry_failed: train trials again whose record says failed.
        warm_start: paths or URIs of the stores of earlier sweeps, which the search is to learn from.
        execute: what a slot does with its work; None trains for real (tests of the plumbing put something else).

    Raises:
        StoreError: the storage cannot be written, or holds something else, or was begun with another warm start.
        WarmStartError: a store of an earlier sweep has nothing to tell this one.
        RecordError: a document in the store is broken.
        DriverLockedError: another driver runs this sweep.
        ClusterError: no Ray can be joined or started.
        CapacityError: a slot does not fit on the cluster.
        SlotsLostError: no slot could be kept running.
        MirrorError, CurvesError: where the study or curves are to be seen cannot be reached, or lacks a package.
        DeviceHoursError: max_device_hours is less than one training takes.
        and what `preflight` finds wrong with models and data.
    """
    began = time.monotonic()
    opening = Opening(config, storage)
    if opening.is_new:
        check_address()  # before models and data are looked at
    store = opening.store
    check_elsewhere(config, store)
    memory = settle_warm_start(config, store, warm_start)
    opening.create()
    with opening.lock(console) as lock, ExitStack() as leaving:
        opening.bind(command)
        for line in replaced_lines(store, memory):
            print_plain(console, line)
        keep_warm_start(store, memory)
        asker = Asker(config, store, retry_failed=retry_failed)
        asker.relabel(lock.epoch)
        deadline = began + max_seconds if max_seconds is not None else float("inf")
        later = (BASE_WORK,) if store.read_base() is None else ()
        run = SlotRun(config, store, lock, asker, console, deadline, execute, later)
        records = _Records(store)
        pauses = config.stopping is not None and config.stopping.then == "pause"
        may_go_on = pauses and any(record.stopped_at is not None for record in asker.records)
        opening.check(console, something_is_left=asker.num_left > 0 or may_go_on)
        check_device_hours(config, store, asker, opening.amounts)
        run.meter = meter_of(config, store, asker)
        asker.planner = opening.planner
        run.judging = Judging.of(config, store, opening.planner)
        if run.judging is not None and pauses:
            keeps = config.retention.checkpoints == "always"
            run.asker = SecondChance(asker, store, run.judging.going_on, keep_checkpoints=keeps)
        leaving.enter_context(seen_elsewhere(config, store, asker, console))
        if run.asker.num_left and run.meter is not None and run.meter.is_spent:
            run.ending = "the device hours are spent"
        elif run.asker.num_left or later or is_recommended_left(records.summary()):
            records.known = None
            leaving.enter_context(cluster.connected())
            with Signals() as signals:
                run_on_slots(run, signals, leaving, lambda end: _finish(end, records))
        if config.retention.adapters == "front" and run.ending != "interrupted":
            records.known = drop_dominated(records.summary(), lock.epoch)
        if asker.exhausted and run.ending == "all trials are done":
            run.ending = (
                "the space is exhausted: all that keeps the constraints was tried"
                if asker.num_left_out
                else "the space is exhausted"
            )
        summary = records.summary()
        if config.num_trials > 0:
            told = config.objectives, config.telling, config.serve_on
            write_importances(store, find_importances(summary.asks, summary.records, *told))
        slots = run.slots.values()
        end = Conclusion(began, run.ending, asker, run.num_ended, run.startup_seconds, run.problems, slots)
        return conclude(summary, end, console)


def _finish(end: SlotEnd, records: _Records) -> None:
    """The base model's figures, test figures and a copy of the recommended adapter, by slots that wait anyway."""
    run = end.run
    if run.later and (problem := end.problem_of(BASE_WORK)):
        run.problems.append(f"the base model was not evaluated: {problem}")

    def test(point: Point, _: str) -> str | None:
        return end.do({"kind": "test", "key": point.key, "candidate": point.candidate.name})

    run.problems += finish_recommended(records.summary(), test)
