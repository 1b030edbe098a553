"""What a worker of a slot that only measures does: the speeds of some trainings, told to the driver."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from ray.train import get_context
from ray.train.torch import get_device

from prunedlora.config.trial import TrialConfig
from prunedlora.fleet.answers import answer
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.measured_speed import measure_speed


@dataclass(frozen=True)
class Asked:
    """The same for all workers."""

    trials: dict[str, dict[str, Any]]
    """Kind → a training of it as JSON data, its names on the Hub pinned."""
    cpus_per_worker: int
    folder: str
    """The driver's working directory, which relative paths of models and data are meant from."""
    told: Any
    """The driver's actor, which hears when the workers begin, and each speed."""


def measure(asked: Asked) -> None:
    """One training after the other. Raises whatever loading and training raise."""
    context = get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size(), get_device())
    torch.set_num_threads(asked.cpus_per_worker)
    if os.path.isdir(asked.folder):
        os.chdir(asked.folder)
    if workers.rank == 0:
        answer(asked.told.begin.remote())
    assets = AssetCache(workers.device)
    for kind, written in asked.trials.items():
        speed = measure_speed(TrialConfig.model_validate(written), kind, assets=assets, workers=workers)
        if workers.rank == 0:
            answer(asked.told.add.remote(speed.model_dump_json()))
