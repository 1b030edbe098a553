"""Whether data-parallel workers have changed their adapters alike.

Each worker works out for itself what goes, from sums that all of them have. Should one come to another result (a device
that errs, libraries of different versions), the gradients of different components would be added up from then on, and
where the shapes are equal nothing would show it.
"""

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from prunedlora.pruning.pruner import Event
from prunedlora.training.distributed import Workers

NUM_PARTS = 3
PART_BITS = 20
"""Of each part of the checksum: the sum of the squares over 8,192 workers is exact in float64."""


class WorkersDifferError(RuntimeError):
    """Data-parallel workers hold different adapters. Raised on all of them alike."""


class Agreement:
    """A checksum of every change of ranks that this worker has made since all of them began from the same state."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._parts = [0] * NUM_PARTS
        self._last_step: int | None = None

    def add(self, event: Event) -> None:
        """Takes in the layers' ranks and which of their components went, so which are kept."""
        text = json.dumps([event.step, event.removed, event.ranks], sort_keys=True)
        self._digest.update(text.encode())
        whole = int.from_bytes(self._digest.digest())
        self._parts = [whole >> (PART_BITS * i) & (1 << PART_BITS) - 1 for i in range(NUM_PARTS)]
        self._last_step = event.step

    def numbers(self, device: torch.device) -> Tensor:
        """The checksum's parts and their squares, (2 NUM_PARTS,) float64, to be summed over the workers."""
        return torch.tensor([*self._parts, *(part**2 for part in self._parts)], dtype=torch.float64, device=device)

    def check(self, sums: Sequence[float], num_workers: int) -> None:
        """`sums`: of `numbers` over the workers. Raises WorkersDifferError, on all workers alike, unless all parts are
        the same everywhere: Σ c² · n = (Σ c)² holds for equal numbers c alone."""
        parts, squares = [int(value) for value in sums[:NUM_PARTS]], [int(value) for value in sums[NUM_PARTS:]]
        if any(square * num_workers != part**2 for part, square in zip(parts, squares, strict=True)):
            when = "has removed nothing yet" if self._last_step is None else f"last did so at step {self._last_step}"
            raise WorkersDifferError(
                f"the {num_workers} workers of this training have removed different components (this one {when}): "
                "their sums or devices differ; look for a faulty device, or for nodes with other versions of torch"
            )

    def confirm(self, workers: Workers) -> None:
        """Compares now. Raises WorkersDifferError, PeerLostError."""
        if workers.num_workers == 1:
            return
        sums = self.numbers(workers.device)
        workers.sum_([sums])
        self.check(sums.tolist(), workers.num_workers)
