"""Which examples a step sees: a function of the seed and the global position, so that nothing has to be remembered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Generic, TypeVar

import torch

from prunedlora.seeds import generator

Feature = TypeVar("Feature")


@dataclass(frozen=True)
class BatchOrder(Generic[Feature]):
    """Batches of the training split in a seeded order, endless; each pass over the data has its own permutation.

    The order depends on the global batch alone: with several workers each takes every num_workers-th example of the
    batch, so that the number of workers may change between two runs of the same trial.
    """

    features: Sequence[Feature]
    batch_size: int
    """Examples per optimizer step, over all workers."""
    micro_batch_size: int | None
    """Examples per forward pass; None: a worker's whole share."""
    seed: int

    def micro_batches(self, step: int, rank: int, num_workers: int) -> Iterator[list[Feature]]:
        """This worker's share of one optimizer step, in forward passes."""
        start = step * self.batch_size
        share = [self._at(start + i) for i in range(rank, self.batch_size, num_workers)]
        size = self.micro_batch_size or len(share)
        for i in range(0, len(share), size):
            yield share[i : i + size]

    def _at(self, position: int) -> Feature:
        epoch, index = divmod(position, len(self.features))
        return self.features[_permutation(self.seed, epoch, len(self.features))[index]]


def num_epoch_steps(num_examples: int, batch_size: int, num_epochs: float) -> int:
    """Optimizer steps that make up `num_epochs` passes over the training split, rounded up."""
    return ceil(num_epochs * num_examples / batch_size)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> list[int]:
    return torch.randperm(size, generator=generator(seed, "order", epoch)).tolist()
