"""What a worker of a slot that only measures does: the speeds of some trainings, told to the driver."""

import os

import torch
from ray.train import get_context
from ray.train.torch import get_device

from prunedlora.config.trial import TrialConfig
from prunedlora.fleet.answers import answer
from prunedlora.fleet.speed_talk import Asked
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.measured_speed import measure_speed


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
