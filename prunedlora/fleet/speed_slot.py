"""Speeds measured where the sweep will run: in a slot with its resources, before there is a store."""

import os
import time
from collections.abc import Mapping

import ray
from ray.train import TrainingFailedError

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.answers import answer
from prunedlora.fleet.entry import speed_loop
from prunedlora.fleet.slot_fit import RAY_FOLDER, fit
from prunedlora.fleet.slots import found_no_place, reason_of
from prunedlora.fleet.speed_talk import Asked, Told
from prunedlora.results.analysis.plan_document import MeasuredSpeed
from prunedlora.results.storage import Storage


class SpeedError(RuntimeError):
    """The speeds could not be measured; the message says why."""


def measure_in_slot(
    trials: Mapping[str, TrialConfig], resources: ResourcesConfig, storage: Storage
) -> tuple[float, list[MeasuredSpeed]]:
    """Seconds until the slot was ready, and the speed of each of these trainings, by kind; on the Ray that this process
    is connected to. Of `storage` a folder is used, and gone afterwards.

    Raises SpeedError where the slot finds no place, or its workers fail.
    """
    told = ray.remote(Told).options(num_cpus=0, scheduling_strategy=cluster.here()).remote()
    written = {kind: trial.model_dump(mode="json") for kind, trial in trials.items()}
    asked = Asked(written, resources.cpus_per_worker, os.getcwd(), told)
    started = time.time()
    try:
        fit(speed_loop, {"asked": asked}, resources=resources, storage=storage, name="speed")
    except TrainingFailedError as error:
        if found_no_place(error):
            raise SpeedError(
                "no node has room for a slot now, so no speed can be measured; try again when there is, or give "
                "--no-calibration"
            ) from error
        raise SpeedError(f"a training that was to be measured failed: {reason_of(error)}") from error
    finally:
        storage.delete_folder(RAY_FOLDER)
    began, speeds = answer(told.all.remote())
    ray.kill(told)
    return began - started, [MeasuredSpeed.model_validate_json(speed) for speed in speeds]
