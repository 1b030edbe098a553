"""Worker: a process of a slot that does one piece of work after another for the whole sweep.

Rank 0 talks to the board; the other ranks wait for its broadcast (Ray's own: it has no time-out, a torch collective
does) and read what they need from the store.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
import torch
from ray.train import get_context
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device

from prunedlora.config.identity import adapter_contents, data_contents, metric_contents
from prunedlora.config.pins import pinned
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.fleet.answers import answer
from prunedlora.fleet.board import REPLACED, Looked, Work
from prunedlora.fleet.package_sources import check_sources, own_sources
from prunedlora.fleet.slot import SlotSettings
from prunedlora.results.driver import read_driver
from prunedlora.results.driver_lock import SETTLE_SECONDS
from prunedlora.results.record import StoredLook
from prunedlora.results.store import Store
from prunedlora.results.sweep_binding import changed_contents
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.base_reference import measure_base
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.failures import loading, row_of
from prunedlora.trial.looking import Looking
from prunedlora.trial.outside_error import OutsideError

TAKE_SECONDS = 30.0
PROGRESS_SECONDS = 0.5


class SharedStorageError(OutsideError):
    """A slot that does not see the sweep's store."""


class OtherDataError(OutsideError):
    """A node whose data are not those that the sweep began with."""


class ReplacedError(OutsideError):
    """Workers that others have replaced, as when their node was thought lost: they end."""


@dataclass(frozen=True)
class Bench:
    """What a piece of work is done with: kept by the slot from one to the next."""

    settings: SlotSettings
    store: Store
    workers: Workers
    assets: AssetCache
    report: Callable[[str, dict[str, Any]], Verdict]
    progress: Callable[[int, int, float], Verdict]
    checkpointed: Callable[[], None]
    """Tells the board that the trial in hand has a new checkpoint."""
    look: Callable[[str, StoredLook, bool], dict[str, Any] | None] = lambda *_: None
    """Tells the board a look at a trial, by key, and whether it was decided on; gives the decision."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Data sections with what their names stand for, as JSON → fingerprint of their examples as this worker loads
    them."""


def serve(settings: SlotSettings) -> None:
    """Works until the board says that the sweep is over.

    Raises OtherSourcesError when another prunedlora is imported here, SharedStorageError when the store is not seen,
    OtherDataError when the data here are not the sweep's, and whatever `execute_trial` lets through: Ray Train then
    restarts the workers, and gives the slot up where that does not help. Its work goes to another slot.
    """
    context = get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size(), get_device())
    torch.set_num_threads(settings.cpus_per_worker)
    if os.path.isdir(settings.folder):
        os.chdir(settings.folder)
    node = ray.util.get_node_ip_address()
    check_sources(settings.sources, own_sources(), f"slot {settings.slot} on node {node}")
    words = _Words(settings, _join(settings) if workers.rank == 0 else 0)
    store = Store(settings.store_uri)
    check_store(store, settings)
    bench = Bench(
        settings=settings,
        store=store,
        workers=workers,
        assets=AssetCache(workers.device),
        report=words.report,
        progress=words.progress,
        checkpointed=words.checkpointed,
        look=words.look,
    )
    while True:
        work = words.take() if workers.rank == 0 else None
        if workers.num_workers > 1:
            work = broadcast_from_rank_zero(work)
        if work is None:
            return
        try:
            if settings.execute is None:
                check_data(work, bench)
            _do(work, bench, words)
        except Exception as error:
            if workers.rank == 0:
                words.hand_back(f"{type(error).__name__}: {error}")
            raise


def execute_work(work: Work, bench: Bench) -> str:
    """Does a piece of work; returns "completed", "stopped", "failed" or "paused"."""
    store, settings, trial = bench.store, bench.settings, _trial_of(work, bench)
    if work["kind"] == "base":
        measure_base(trial, store=store, assets=bench.assets, workers=bench.workers)
        return "completed"
    key = work["key"]
    if work["kind"] == "test":
        measure_test(trial, key, work["candidate"], store=store, assets=bench.assets, workers=bench.workers)
        return "completed"
    # The workers died between the record and telling the board: the trial is over.
    ended: str | None = bench.workers.from_first(
        _ended(store, key, settings.epoch) if bench.workers.rank == 0 else None
    )
    if ended is not None:
        return ended
    stopping = settings.stopping
    return execute_trial(
        trial,
        key,
        store=store,
        assets=bench.assets,
        workers=bench.workers,
        epoch=settings.epoch,
        max_attempts=settings.max_attempts,
        report=lambda candidate: bench.report(key, candidate),
        progress=bench.progress,
        keep_checkpoints=settings.keep_checkpoints,
        checkpoint_every_steps=settings.checkpoint_every_steps,
        checkpoint_every_seconds=settings.checkpoint_every_seconds,
        checkpointed=bench.checkpointed,
        looking=None if stopping is None else Looking(stopping, partial(bench.look, key)),
    )


def _ended(store: Store, key: str, epoch: int) -> str | None:
    """How a trial has ended already; None: it has not, or has failed in an earlier run and is tried again, or was
    stopped and goes on."""
    record = store.read_record(key)
    if record is not None and (goes_on := store.read_goes_on(key)) is not None and goes_on.is_due(record):
        return None
    if record is None or (record.status == "failed" and not store.has_failed(key, epoch)):
        return None
    return record.status


def check_store(store: Store, settings: SlotSettings) -> None:
    """Raises SharedStorageError when this node does not see the store that the driver holds."""
    driver = read_driver(store.storage)
    if driver is None or driver.epoch != settings.epoch:
        found = "no driver.json there" if driver is None else f"driver epoch {driver.epoch}, not {settings.epoch}"
        raise SharedStorageError(
            f"slot {settings.slot} on node {ray.util.get_node_ip_address()} does not see the store {store.uri} "
            f"({found}): the storage must be shared by all nodes (NFS, s3://, gs://)"
        )


def check_data(work: Work, bench: Bench) -> None:
    """Raises OtherDataError when the examples of a piece of work, as this worker loads them, are not those on record,
    or an adapter that it begins with, or the file of a metric of one's own, is not.

    The driver has put them there for the sweep and the corners of its space; of a section between these, the first
    worker's count. Called by all ranks, which hear from rank 0 what is on record. Raises NodeError for data that this
    node does not get; others that do not load the work itself meets again, and puts the reason where it belongs.
    """
    written = _written(work, bench)
    _check_files(written, bench)
    found = _fingerprint(written, bench)
    known = _known_fingerprint(written, found, bench.store) if bench.workers.rank == 0 else None
    if bench.workers.num_workers > 1:
        known = broadcast_from_rank_zero(known)
    if None not in (found, known) and found != known:
        raise OtherDataError(
            f"slot {bench.settings.slot} on node {ray.util.get_node_ip_address()} does not serve: its data have the "
            f"fingerprint {found}, the sweep began with {known} (training data {written.data.train_names}): files "
            "that differ, or another version of datasets or of the generator"
        )


def _check_files(written: TrialConfig, bench: Bench) -> None:
    """Raises OtherDataError where an adapter that the configuration begins with, or the file of its metric, is not that
    of the sweep, NodeError where this node does not have it."""
    with loading(f"the adapter to begin with, or metric {written.evaluation.metric!r}"):
        found = adapter_contents(written) | metric_contents(written)
    if changed := changed_contents(bench.store.binding.read_contents(), found):
        raise OtherDataError(
            f"slot {bench.settings.slot} on node {ray.util.get_node_ip_address()} does not serve: {changed[0]} is "
            "another here than when the sweep began"
        )


def _fingerprint(written: TrialConfig, bench: Bench) -> str | None:
    """Of the configuration's examples, loaded once while the files are the same; None where they do not load, by no
    fault of the node. Raises NodeError."""
    trial = pinned(written, bench.store.binding.read_commits())
    try:
        with loading(f"data {written.data.train_names}"):
            section = json.dumps([written.data.model_dump(), data_contents(written)])
            if section not in bench.fingerprints:
                bench.fingerprints[section] = bench.assets.examples(trial).fingerprint
    except OutsideError:
        raise
    except Exception:  # of a generator or a data library, each with its own; `AssetCache.get` raises it again
        return None
    return bench.fingerprints[section]


def _known_fingerprint(written: TrialConfig, found: str | None, store: Store) -> str | None:
    """What is on record for the configuration's data section; where nothing is, `found` goes there."""
    data = written.data.model_dump(mode="json")
    known = store.binding.read_fingerprint(data)
    if known is None and found is not None:
        store.binding.write_fingerprint(data, found)
        time.sleep(SETTLE_SECONDS)  # a slot that found nothing there either, at the same moment, has written by then
        known = store.binding.read_fingerprint(data)
    return known


def _trial_of(work: Work, bench: Bench) -> TrialConfig:
    """The configuration that a piece of work is about, its names on the Hub pinned to the sweep's commits."""
    return pinned(_written(work, bench), bench.store.binding.read_commits())


def _written(work: Work, bench: Bench) -> TrialConfig:
    config = bench.settings.base_trial if work["kind"] == "base" else bench.store.read_config(work["key"])
    return TrialConfig.model_validate(config)


def _do(work: Work, bench: Bench, words: "_Words") -> None:
    """Does a piece of work and tells the board. A trial's failures are handled in `execute_trial`; what it lets through
    goes on to Ray Train, after the board knows of a failed record, so that the trial is not begun again. Other work
    that was interrupted (trial/failures.py) goes back to the board with its workers: another slot does it."""
    is_first = bench.workers.rank == 0
    began = time.monotonic()

    def finish(status: str, message: str = "") -> None:
        if is_first:
            words.finish(status, time.monotonic() - began, message)

    try:
        status = (bench.settings.execute or execute_work)(work, bench)
    except Exception as error:
        if work["kind"] != "trial":
            if not row_of(error, loading=False).consequence.has_record:
                raise
            finish("failed", f"{type(error).__name__}: {error}")
            if bench.workers.num_workers == 1:
                return
        elif is_first and bench.store.has_failed(work["key"], bench.settings.epoch):
            finish("failed")
        raise
    finish(status)


def _join(settings: SlotSettings) -> int:
    return int(answer(settings.board.join.remote(settings.slot, ray.util.get_node_ip_address())))


class _Words:
    """What rank 0 says to the board, with the number of its workers' start.

    Raises ReplacedError where the board listens to others by now.
    """

    def __init__(self, settings: SlotSettings, start: int) -> None:
        self._board = settings.board
        self._slot = settings.slot
        self._start = start
        self._last_asked = 0.0

    def take(self) -> Work | None:
        """The next piece of work; None: the sweep is over."""
        while True:
            work: Work | None = answer(self._board.take.remote(self._slot, self._start, TAKE_SECONDS))
            if work is None:
                return None
            if work["kind"] == "replaced":
                raise self._replaced()
            if work["kind"] != "wait":
                self._last_asked = 0.0  # its first step is told at once
                return work

    def progress(self, step: int, num_steps: int, tokens_per_second: float) -> Verdict:
        """Asks the board at most every PROGRESS_SECONDS; between, the answer is to go on."""
        now = time.monotonic()
        if now - self._last_asked < PROGRESS_SECONDS:
            return Verdict.CONTINUE
        self._last_asked = now
        told = step, num_steps, tokens_per_second
        return self._verdict(self._board.progress.remote(self._slot, self._start, *told))

    def report(self, key: str, candidate: dict[str, Any]) -> Verdict:
        return self._verdict(self._board.report.remote(self._slot, self._start, key, candidate))

    def look(self, key: str, stored: StoredLook, is_decided: bool) -> dict[str, Any] | None:
        """The decision on a look. Raises ReplacedError."""
        told = stored.model_dump(mode="json")
        looked: Looked = answer(self._board.look.remote(self._slot, self._start, key, told, is_decided))
        if looked["answer"] == REPLACED:
            raise self._replaced()
        return looked["decision"]

    def checkpointed(self) -> None:
        self._verdict(self._board.advance.remote(self._slot, self._start))

    def finish(self, status: str, seconds: float, message: str) -> None:
        self._verdict(self._board.finish.remote(self._slot, self._start, status, seconds, message))

    def hand_back(self, message: str) -> None:
        """The work in hand goes to another slot, at once: these workers end, for the reason `message`."""
        answer(self._board.hand_back.remote(self._slot, self._start, message))

    def _verdict(self, question: Any) -> Verdict:
        said = answer(question)
        if said == REPLACED:
            raise self._replaced()
        return Verdict(said)

    def _replaced(self) -> ReplacedError:
        return ReplacedError(f"the workers of start {self._start} of slot {self._slot} have been replaced: they end")
