"""Slots, the driver's side: starts one Ray Train run per slot and keeps it going until the sweep is over."""

import threading
import time
from typing import Any

import fsspec
import pyarrow.fs  # type: ignore[import-untyped]
from ray.exceptions import RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.answers import answer
from prunedlora.fleet.capacity import has_room, waiting_text, worker_needs
from prunedlora.fleet.entry import train_loop
from prunedlora.fleet.failure_count import FailureCount
from prunedlora.fleet.slot import SlotSettings
from prunedlora.fleet.slot_thread import SlotThread
from prunedlora.results.storage import Storage

BACK_OFF_SECONDS = 2.0
MOST_BACK_OFF_SECONDS = 60.0
PLACE_SECONDS = 30.0
"""Between two requests for a place while the cluster has none. Only a request makes an autoscaler add nodes."""
LOOK_SECONDS = 2.0
RAY_FOLDER = "ray"
# Not all versions of Ray count preemptions apart.
NO_RESTARTS = {
    name: 0
    for name in ("max_failures", "controller_failure_limit", "max_preemption_failures")
    if name in FailureConfig.__dataclass_fields__
}


class SlotsLostError(RuntimeError):
    """All slots were closed; the message has the reasons."""


class Slots:
    """The slots of a sweep, each held by a thread of its own that waits for its `TorchTrainer.fit()`."""

    def __init__(self, resources: ResourcesConfig, storage: Storage) -> None:
        self._resources = resources
        self._storage = storage
        self._closing = threading.Event()
        self._closed: dict[int, str] = {}
        self._threads: list[SlotThread] = []

    def open(self, settings: SlotSettings) -> None:
        """Starts one more slot."""
        answer(settings.board.open.remote(settings.slot))
        thread = SlotThread(target=self._keep, args=(settings,), name=f"slot-{settings.slot}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def check(self) -> None:
        """Raises SlotsLostError when no slot is left."""
        if len(self._closed) == len(self._threads):
            reasons = "; ".join(text for _, text in sorted(self._closed.items()))
            raise SlotsLostError(f"no slot is left: {reasons}. No trial has failed by this: run the same command again")

    @property
    def num_opened(self) -> int:
        """Slots started so far, those included that were closed since."""
        return len(self._threads)

    @property
    def closed(self) -> dict[int, str]:
        """Slots that were closed before the sweep was over: a sentence that says why."""
        return dict(self._closed)

    @property
    def running(self) -> bool:
        """Whether a slot has still to end."""
        return any(thread.is_alive() for thread in self._threads)

    def waiting_text(self, snapshot: dict[str, Any]) -> str:
        """That slots wait for resources, for which, and what the cluster has. `snapshot`: the board's."""
        open_slots = [slot for slot in snapshot["slots"].values() if slot["state"] != "closed"]
        num_started = sum(slot["state"] in ("idle", "busy") for slot in open_slots)
        return waiting_text(self._resources, cluster.nodes(), num_started, len(open_slots))

    def close(self, timeout: float) -> None:
        """No slot is started again; waits up to `timeout` seconds for those that run to end."""
        self._closing.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _keep(self, settings: SlotSettings) -> None:
        count, run = FailureCount(settings.max_attempts), 0
        while not self._closing.is_set():
            try:
                self._fit(settings, run)
                return
            except Exception as error:  # whatever it is: a slot that ends unseen would leave its trial waiting
                if self._closing.is_set():
                    return
                standing = answer(settings.board.lose.remote(settings.slot))
                if _found_no_place(error):
                    answer(settings.board.wait_for_place.remote(settings.slot))
                    self._wait_for_place()
                elif why := count.note(standing, died=_died(error)):
                    answer(settings.board.shut.remote(settings.slot))
                    node = f" on node {standing['node']}" if standing["node"] else ""
                    self._closed[settings.slot] = f"slot {settings.slot}{node} was closed {why}: {_reason(error)}"
                    return
                else:
                    self._closing.wait(min(BACK_OFF_SECONDS * 2 ** (count.in_a_row - 1), MOST_BACK_OFF_SECONDS))
            run += 1

    def _wait_for_place(self) -> None:
        """Until the cluster may have room for a slot, or it is time to ask for some again."""
        deadline = time.monotonic() + PLACE_SECONDS
        while time.monotonic() < deadline and not self._closing.wait(LOOK_SECONDS):
            if has_room(self._resources, cluster.available()):
                return

    def _fit(self, settings: SlotSettings, run: int) -> None:
        """Serves until the sweep is over. Raises TrainingFailedError when workers failed, or found no place.

        Ray Train starts no workers again by itself: its count is per run and knows of no progress, and while it looks
        for a place it keeps what they had in hand.
        """
        filesystem, folder = fsspec.core.url_to_fs(self._storage.uri_of(RAY_FOLDER))
        TorchTrainer(
            train_loop,
            train_loop_config={"settings": settings},
            scaling_config=ScalingConfig(
                num_workers=self._resources.num_workers,
                use_gpu=self._resources.gpus_per_worker > 0,
                resources_per_worker=worker_needs(self._resources),
                placement_strategy="PACK",
            ),
            run_config=RunConfig(
                name=f"epoch{settings.epoch}-slot{settings.slot}-run{run}",
                storage_path=folder,
                storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)),
                failure_config=FailureConfig(**NO_RESTARTS),
            ),
        ).fit()


def _found_no_place(error: Exception) -> bool:
    """Whether no node had room for the slot's workers, which is no failure of theirs."""
    return isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)


def _failures(error: Exception) -> list[Exception]:
    """What the workers, or Ray Train itself, failed with."""
    if isinstance(error, ControllerError):
        return [error.controller_failure]
    if not isinstance(error, WorkerGroupError):
        return [error]
    return [
        failure.health_check_failure if isinstance(failure, WorkerHealthCheckFailedError) else failure
        # Ray wraps the workers' exceptions in one whose text is the traceback.
        for failure in (getattr(wrapped, "_base_exc", wrapped) for wrapped in error.worker_failures.values())
    ]


def _died(error: Exception) -> bool:
    """Whether a worker's process was gone, killed or with its node, or did not answer."""
    gone = (RayError, WorkerHealthCheckTimeoutError)
    preempted = isinstance(error, TrainingFailedError) and not isinstance(error, (ControllerError, WorkerGroupError))
    return preempted or any(isinstance(failure, gone) for failure in _failures(error))


def _reason(error: Exception) -> str:
    """Type and message of what failed, each once and in one line."""
    texts = (f"{type(failure).__name__}: {' '.join(str(failure).split())}" for failure in _failures(error))
    return "; ".join(dict.fromkeys(texts))
