"""An evaluation shared by all workers: each scores every num_workers-th example, the outcomes come back in order."""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import TypeVar

import torch
from torch import nn

from prunedlora.settings_error import SettingsError
from prunedlora.tasks.batching import by_length
from prunedlora.tasks.outcomes import Outcomes, interleave, merged
from prunedlora.tasks.task import Features, Task
from prunedlora.training.distributed import Workers
from prunedlora.training.memory import Fit, TooLittleMemoryError, halved, is_out_of_memory
from prunedlora.training.model import release_memory

T = TypeVar("T")


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
    fit: Fit | None = None,
    generate: bool = True,
) -> Outcomes:
    """Outcomes of all examples in order, on every worker; without `generate` those alone that need no answer.

    Where memory does not suffice for a batch, this one and those after it are halved. `fit` says how often they are
    from the start, and is told what the worker with the least memory found.

    Raises:
        SettingsError: fewer examples than workers.
        TooLittleMemoryError: a single example does not fit; on all workers alike.
    """
    if len(features) < workers.num_workers:
        raise SettingsError(f"{len(features)} examples to evaluate are fewer than {workers.num_workers} workers")
    shard = features[workers.rank :: workers.num_workers]
    fit = fit or Fit()
    with autocast(workers.device, dtype):
        found = _evaluate(model, task, shard, batch_size, fit.evaluation_halvings, workers.device, generate)
    shards: list[Outcomes] = []
    for rank, (outcomes, halvings) in enumerate(workers.gather(found)):
        if isinstance(outcomes, str):
            raise TooLittleMemoryError(
                f"evaluation: memory does not suffice for one example at a time, on worker {rank} (batch_size "
                f"{batch_size} was halved {halvings} times): {outcomes}"
            )
        shards.append(outcomes)
        fit.evaluation_halvings = max(fit.evaluation_halvings, halvings)
    return interleave(shards)


def _evaluate(
    model: nn.Module,
    task: Task,
    features: Sequence[Features],
    batch_size: int,
    halvings: int,
    device: torch.device,
    generate: bool,
) -> tuple[Outcomes | str, int]:
    """Outcomes in the order of `features`, or why a single example does not fit, and how often batches were halved."""
    (order,) = by_length(features, len(features))
    parts: list[Outcomes] = []
    begin = 0
    while begin < len(order):
        size = halved(batch_size, halvings)
        chosen = [features[index] for index in order[begin : begin + size]]
        try:
            parts.append(task.evaluate(model, chosen, size, device, generate=generate))
            begin += size
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        release_memory(device)  # out of the handler: the error holds what the pass had made
        if len(chosen) == 1:
            return reason, halvings
        halvings += 1
    return _in_place(parts, order), halvings


def _in_place(parts: Sequence[Outcomes], order: Sequence[int]) -> Outcomes:
    """One after the other the outcomes of the examples `order`, each put in its place."""

    def placed(lists: list[Sequence[T]]) -> list[T]:
        return [value for _, value in sorted(zip(order, chain.from_iterable(lists), strict=True), key=itemgetter(0))]

    return merged(parts, placed)
