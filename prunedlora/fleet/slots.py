"""Slots, the driver's side: starts one Ray Train run per slot and keeps it going until the sweep is over."""

import threading
import time
from typing import Any

from ray.exceptions import RayError
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.answers import answer
from prunedlora.fleet.capacity import has_room, waiting_text
from prunedlora.fleet.entry import train_loop
from prunedlora.fleet.failure_count import FailureCount
from prunedlora.fleet.slot import SlotSettings
from prunedlora.fleet.slot_fit import fit
from prunedlora.fleet.slot_thread import SlotThread
from prunedlora.results.storage import Storage

BACK_OFF_SECONDS = 2.0
MOST_BACK_OFF_SECONDS = 60.0
PLACE_SECONDS = 30.0
"""Between two requests for a place while the cluster has none. Only a request makes an autoscaler add nodes."""
LOOK_SECONDS = 2.0


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
                if found_no_place(error):
                    answer(settings.board.wait_for_place.remote(settings.slot))
                    self._wait_for_place()
                elif why := count.note(standing, died=_died(error)):
                    answer(settings.board.shut.remote(settings.slot))
                    node = f" on node {standing['node']}" if standing["node"] else ""
                    self._closed[settings.slot] = f"slot {settings.slot}{node} was closed {why}: {reason_of(error)}"
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
        """Serves until the sweep is over. Raises TrainingFailedError when workers failed, or found no place."""
        fit(
            train_loop,
            {"settings": settings},
            resources=self._resources,
            storage=self._storage,
            name=f"epoch{settings.epoch}-slot{settings.slot}-run{run}",
        )


def found_no_place(error: Exception) -> bool:
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


def reason_of(error: Exception) -> str:
    """Type and message of what failed, each once and in one line."""
    texts = (f"{type(failure).__name__}: {' '.join(str(failure).split())}" for failure in _failures(error))
    return "; ".join(dict.fromkeys(texts))
