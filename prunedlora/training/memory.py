"""Too little memory: how it is told from other errors, and how much of a batch goes through a model at once.

What one pass holds does not change what a step or an evaluation gives, but for rounding. So where memory does not
suffice, passes are halved, then activations computed twice (gradient checkpointing); only then has a trial failed.
"""

from dataclasses import dataclass

import torch

MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",  # torch's allocator on Linux and macOS
    "not enough memory: you tried to allocate",  # and on Windows
    "std::bad_alloc",  # a library's own buffers on a CPU
    "CUDA error: out of memory",  # outside of torch's own pool: what CUDA itself says
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""Of errors that have no type of their own."""


class TooLittleMemoryError(RuntimeError):
    """Not even a single example fits; the message says what was tried. Raised on all workers alike."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on a GPU or a CPU, and that less of it might."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | TooLittleMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


@dataclass
class Fit:
    """How much goes through the model at once, as found; equal on all workers."""

    halvings: int = 0
    """How often the passes of a training step were halved."""
    evaluation_halvings: int = 0
    """How often the batches of an evaluation were halved."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass."""


def halved(size: int, halvings: int) -> int:
    """`size` halved so often, rounded down, and at least 1."""
    return max(1, size >> halvings)
