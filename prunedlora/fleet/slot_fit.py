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
from prunedlora.fleet.cluster import has_dashboard
from prunedlora.results.storage import Storage

RAY_FOLDER = "ray"
CLEANER = "PlacementGroupCleanerCallback"
"""Ray Train's, which starts a process that asks the dashboard's server for the controller."""
# Not all versions of Ray count preemptions apart.
NO_RESTARTS = {
    name: 0
    for name in ("max_failures", "controller_failure_limit", "max_preemption_failures")
    if name in FailureConfig.__dataclass_fields__
}


class SlotTrainer(TorchTrainer):
    """Ray Train's, but for what can do nothing in a Ray without a dashboard, and has each run end 12 s later: so long
    Ray waits for that process, which looks for the server for 40 s. A controller's placement group goes with the driver
    anyway."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return callbacks if has_dashboard() else [each for each in callbacks if type(each).__name__ != CLEANER]


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
    SlotTrainer(
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
