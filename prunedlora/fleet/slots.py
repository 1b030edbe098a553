"""Slots, the driver's side: starts one Ray Train run per slot and keeps it going until the sweep is over."""

import threading
import time

import fsspec
import pyarrow.fs  # type: ignore[import-untyped]
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.fleet.answers import answer
from prunedlora.fleet.capacity import worker_needs
from prunedlora.fleet.entry import train_loop
from prunedlora.fleet.slot import SlotSettings
from prunedlora.results.storage import Storage

MOST_FAILURES = 3
"""Failures in a row, without a finished trial between, after which a slot is given up."""
BACK_OFF_SECONDS = 2.0
RAY_FOLDER = "ray"


class SlotsLostError(RuntimeError):
    """All slots were given up; the message has the last one's reason."""


class Slots:
    """The slots of a sweep, each held by a thread of its own that waits for its `TorchTrainer.fit()`."""

    def __init__(self, settings: list[SlotSettings], resources: ResourcesConfig, storage: Storage) -> None:
        self._resources = resources
        self._storage = storage
        self._closing = threading.Event()
        self._errors: dict[int, str] = {}
        self._threads = [
            threading.Thread(target=self._keep, args=(one,), name=f"slot-{one.slot}", daemon=True) for one in settings
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raises SlotsLostError when no slot is left."""
        if len(self._errors) == len(self._threads):
            slot, reason = sorted(self._errors.items())[-1]
            raise SlotsLostError(f"all {len(self._threads)} slots failed; slot {slot}: {reason}")

    @property
    def errors(self) -> dict[int, str]:
        """Slots that were given up, with the reason."""
        return dict(self._errors)

    @property
    def running(self) -> bool:
        """Whether a slot has still to end."""
        return any(thread.is_alive() for thread in self._threads)

    def close(self, timeout: float) -> None:
        """No slot is started again; waits up to `timeout` seconds for those that run to end."""
        self._closing.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _keep(self, settings: SlotSettings) -> None:
        failures = run = 0
        while not self._closing.is_set():
            finished = _num_finished(settings)
            try:
                self._fit(settings, run)
                return
            except Exception as error:  # whatever it is: a slot that ends unseen would leave its trial waiting
                if self._closing.is_set():
                    return
                # Ray Train has started the workers again as often as is worthwhile before it raises WorkerGroupError.
                failures += MOST_FAILURES if isinstance(error, WorkerGroupError) else 1
                if _num_finished(settings) > finished:
                    failures = 1
                if failures >= MOST_FAILURES:
                    self._errors[settings.slot] = _reason(error)
                    answer(settings.board.give_up.remote(settings.slot))
                    return
            run += 1
            self._closing.wait(BACK_OFF_SECONDS * 2**failures)

    def _fit(self, settings: SlotSettings, run: int) -> None:
        """Serves until the sweep is over. Raises TrainingFailedError when the workers failed too often."""
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
                # A trial that kills its workers gets its failed record at attempt max_attempts + 1 and must not take
                # the slot with it.
                # Without a limit a slot whose node is gone for good would look for a place for ever.
                failure_config=FailureConfig(max_failures=settings.max_attempts + 1, controller_failure_limit=1),
            ),
        ).fit()


def _num_finished(settings: SlotSettings) -> int:
    return int(answer(settings.board.num_finished.remote(settings.slot)))


def _reason(error: Exception) -> str:
    """What the workers, or Ray Train itself, failed with: type and message, each once."""
    failures: list[Exception] = [error]
    if isinstance(error, WorkerGroupError):
        # Ray wraps the workers' exceptions in one whose text is the traceback.
        failures = [getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values()]
    elif isinstance(error, ControllerError):
        failures = [error.controller_failure]
    return "; ".join(dict.fromkeys(f"{type(failure).__name__}: {failure}" for failure in failures))
