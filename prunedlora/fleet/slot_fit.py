"""One Ray Train run on the workers of a slot, with the sweep's resources: that of a slot for a sweep, or one that only
measures."""

from collections.abc import Callable
from typing import Any

import fsspec
import pyarrow.fs  # type: ignore[import-untyped]
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.fleet.capacity import worker_needs
from prunedlora.results.storage import Storage

RAY_FOLDER = "ray"
# Not all versions of Ray count preemptions apart.
NO_RESTARTS = {
    name: 0
    for name in ("max_failures", "controller_failure_limit", "max_preemption_failures")
    if name in FailureConfig.__dataclass_fields__
}


def fit(
    loop: Callable[[dict[str, Any]], None],
    loop_config: dict[str, Any],
    *,
    resources: ResourcesConfig,
    storage: Storage,
    name: str,
) -> None:
    """Runs `loop` on all workers until it returns. Raises TrainingFailedError when workers failed, or found no place.

    Ray Train starts no workers again by itself: its count is per run and knows of no progress, and while it looks for a
    place it keeps what they had in hand. It needs the folder RAY_FOLDER of `storage`, which all nodes must see.
    """
    filesystem, folder = fsspec.core.url_to_fs(storage.uri_of(RAY_FOLDER))
    TorchTrainer(
        loop,
        train_loop_config=loop_config,
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=worker_needs(resources),
            placement_strategy="PACK",
        ),
        run_config=RunConfig(
            name=name,
            storage_path=folder,
            storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)),
            failure_config=FailureConfig(**NO_RESTARTS),
        ),
    ).fit()
