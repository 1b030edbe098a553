"""An evaluation shared by all workers: each scores every num_workers-th example, the outcomes come back in order."""

from collections.abc import Sequence

import torch
from torch import nn

from prunedlora.tasks.outcomes import Outcomes, interleave
from prunedlora.tasks.task import Features, Task
from prunedlora.training.distributed import Workers


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Computation in `dtype`; float32 means off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def evaluate(
    model: nn.Module,
    task: Task,
    features: Sequence[Features],
    *,
    batch_size: int,
    dtype: torch.dtype,
    workers: Workers,
) -> Outcomes:
    """Outcomes of all examples in order, on every worker. Raises ValueError for fewer examples than workers."""
    if len(features) < workers.num_workers:
        raise ValueError(f"{len(features)} examples to evaluate are fewer than {workers.num_workers} workers")
    shard = features[workers.rank :: workers.num_workers]
    with autocast(workers.device, dtype):
        outcomes = task.evaluate(model, shard, batch_size, workers.device)
    return interleave(workers.gather(outcomes))
