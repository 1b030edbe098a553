"""Slot: a long-lived Ray Train run that serves the whole sweep. Here, what the driver tells it.

Ray Train's controller imports this module as well, so nothing heavy is imported before a worker serves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunedlora.fleet.board import Work

if TYPE_CHECKING:
    from prunedlora.fleet.worker import Bench

Execute = Callable[[Work, "Bench"], str]
"""Does a piece of work and returns its status."""


@dataclass(frozen=True)
class SlotSettings:
    """What the driver tells a slot; the same for all its workers."""

    slot: int
    store_uri: str
    epoch: int
    board: Any
    cpus_per_worker: int
    folder: str
    """The driver's working directory, which relative paths of models and data are meant from."""
    base_trial: dict[str, Any]
    max_attempts: int
    keep_checkpoints: bool
    checkpoint_every_steps: int | None
    execute: Execute | None = None
    """None trains for real; tests of the plumbing put something else."""


def serve(config: dict[str, Any]) -> None:
    """The train loop of a slot's workers."""
    from prunedlora.fleet import worker

    worker.serve(config["settings"])
