"""Data parallelism for adapters: one coalesced all-reduce per step, no wrapper around the model.

Only adapters and a head train, a few MB, so summing their gradients in one buffer costs little, and shrinking them
needs no re-wrapping as it would under DDP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """This process among the data-parallel workers of a run; with several, their process group exists already."""

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
            dist.all_reduce(buffer)
            for tensor, part in zip(group, buffer.split([tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, in order of rank, on every worker."""
        if self.num_workers == 1:
            return [value]
        values: list[Any] = [None] * self.num_workers
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, on every worker."""
        return self.gather(value)[0]
