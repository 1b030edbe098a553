"""Data parallelism for adapters: one coalesced all-reduce per step, no wrapper around the model.

Only adapters and a head train, a few MB, so summing their gradients in one buffer costs little, and shrinking them
needs no re-wrapping as it would under DDP.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class PeerLostError(RuntimeError):
    """A collective operation that could not be completed: another worker is gone."""


@dataclass(frozen=True)
class Workers:
    """This process among the data-parallel workers of a run; with several, their process group exists already.

    All methods raise PeerLostError when another worker is gone, as far as the backend tells.
    """

    rank: int
    num_workers: int
    device: torch.device

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sums each tensor over the workers, in place, in one all-reduce per dtype."""
        if self.num_workers == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            group = [tensor for tensor in tensors if tensor.dtype == dtype]
            buffer = torch.cat([tensor.reshape(-1) for tensor in group])
            with _peers_needed():
                dist.all_reduce(buffer)
            for tensor, part in zip(group, buffer.split([tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, in order of rank, on every worker."""
        if self.num_workers == 1:
            return [value]
        values: list[Any] = [None] * self.num_workers
        with _peers_needed():
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, on every worker."""
        return self.gather(value)[0]


@contextmanager
def _peers_needed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo and NCCL raise when a connection ends
        # A kernel's own error may surface here first: that is this worker's, and no reason to try again.
        if isinstance(error, torch.OutOfMemoryError) or str(error).startswith("CUDA error"):
            raise
        raise PeerLostError(f"another worker is gone: {error}") from error
