"""Which examples a step sees: a function of the seed and the global position, so that nothing has to be remembered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch

from prunedlora.seeds import generator
from prunedlora.tasks.task import Features
from prunedlora.tasks.tokenised import length_of
from prunedlora.training.memory import halved


@dataclass(frozen=True)
class BatchOrder:
    """Batches of the training split in a seeded order, endless; each pass over the data has its own permutation.

    Which examples a step sees depends on the global batch alone, so that the number of workers may change between two
    runs of the same trial. A step's examples are ordered by length and dealt out to the workers: examples of like
    length share a forward pass, which wastes little on padding, and all workers have about as much to do.
    """

    features: Sequence[Features]
    batch_size: int
    """Examples per optimizer step, over all workers; not fewer than workers."""
    micro_batch_size: int | None
    """Examples per forward pass; None: no limit."""
    micro_batch_tokens: int | None
    """Tokens per forward pass, padding included; an example that is longer goes alone. None: no limit."""
    seed: int

    def limits(self, num_workers: int, halvings: int = 0) -> tuple[int | None, int | None]:
        """(examples, tokens) that one forward pass takes at most, halved so often; None: no limit of this kind."""
        if self.micro_batch_tokens is not None:
            return None, halved(self.micro_batch_tokens, halvings)
        share = ceil(self.batch_size / num_workers)
        return halved(min(self.micro_batch_size or share, share), halvings), None

    def micro_batches(
        self, position: int, rank: int, num_workers: int, *, halvings: int = 0
    ) -> Iterator[list[Features]]:
        """This worker's share of one optimizer step, in forward passes, the longest examples first, so that too little
        memory shows at once. `position`: which batch of the endless order the step sees (Course.position). `halvings`:
        how often the limits of a pass are halved.

        A function of the step's examples and the arguments. All workers get equally many passes; the last is empty for
        some of them where it holds the one example that they have fewer.
        """
        for indices in self._passes(position, rank, num_workers, halvings):
            yield [self.features[index] for index in indices]

    def token_counts(self, position: int, num_workers: int) -> tuple[int, int]:
        """(tokens, tokens with padding) that go through the model in one step, over all workers. By lengths alone."""
        tokens = positions = 0
        for rank in range(num_workers):
            for indices in self._passes(position, rank, num_workers, halvings=0):
                lengths = [self._length(index) for index in indices]
                tokens += sum(lengths)
                positions += len(lengths) * max(lengths, default=0)
        return tokens, positions

    def _passes(self, position: int, rank: int, num_workers: int, halvings: int) -> Iterator[list[int]]:
        """By number: of an example that another worker has, its length is all that must be known."""
        most_examples, most_tokens = self.limits(num_workers, halvings)
        start = position * self.batch_size
        batch = [self._at(start + i) for i in range(self.batch_size)]
        batch.sort(key=lambda index: -self._length(index))
        share, longest = batch[rank::num_workers], batch[::num_workers]  # rank 0 has the longest of each round
        begin = 0
        while begin < len(longest):
            num_together = most_examples
            if most_tokens is not None:
                num_together = max(1, most_tokens // self._length(longest[begin]))
            assert num_together is not None
            yield share[begin : begin + num_together]
            begin += num_together

    def _at(self, position: int) -> int:
        """Which example comes at a place in the endless order."""
        epoch, index = divmod(position, len(self.features))
        return int(_permutation(self.seed, epoch, len(self.features))[index])

    def _length(self, index: int) -> int:
        return length_of(self.features, index)


def num_epoch_steps(num_examples: int, batch_size: int, num_epochs: float) -> int:
    """Optimizer steps that make up `num_epochs` passes over the training split, rounded up."""
    return ceil(num_epochs * num_examples / batch_size)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> torch.Tensor:
    return torch.randperm(size, generator=generator(seed, "order", epoch))
