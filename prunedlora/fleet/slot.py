"""Slot: a long-lived Ray Train run that serves the whole sweep. Here, what the driver tells it.

The driver and Ray Train's controller import this module as well, so nothing heavy is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.fleet.board import Work
from prunedlora.fleet.package_sources import Sources

Execute = Callable[[Work, Any], str]
"""Does a piece of work with a worker.Bench and returns its status."""


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
    sources: Sources
    """The driver's."""
    base_trial: dict[str, Any]
    max_attempts: int
    keep_checkpoints: bool
    checkpoint_every_steps: int | None
    checkpoint_every_seconds: float | None
    stopping: StoppingConfig | None = None
    """How trials are looked at on the way; None: they are not."""
    execute: Execute | None = None
    """None trains for real; tests of the plumbing put something else."""
