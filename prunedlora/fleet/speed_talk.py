"""What a slot that only measures is asked, and what it has said so far. The actor that keeps the latter needs no torch,
and starts without."""

import time
from dataclasses import dataclass
from typing import Any


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


class Told:
    """What a slot that measures has said so far; an actor where it is started."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._speeds: list[str] = []

    def begin(self) -> None:
        """Its workers are ready."""
        self._began = time.time()

    def add(self, speed: str) -> None:
        """A MeasuredSpeed as JSON text."""
        self._speeds.append(speed)

    def all(self) -> tuple[float | None, list[str]]:
        """When the workers were ready, in seconds since 1970 by this node's clock, and the speeds."""
        return self._began, self._speeds
