"""A trial while it trains: all that lives and changes between its first step and its last."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from prunedlora.methods.method import Method
from prunedlora.tasks.task import Task
from prunedlora.training.course import Course
from prunedlora.training.data import BatchOrder
from prunedlora.training.loss_scale import LossScale
from prunedlora.training.memory import Fit


@dataclass
class Trial:
    """Everything that lives and changes while one configuration trains."""

    model: nn.Module
    task: Task
    method: Method
    optimizer: Optimizer
    order: BatchOrder
    course: Course
    max_grad_norm: float | None
    dtype: torch.dtype
    """Type of autocast; float32 means off."""
    seed: int
    step: int = 0
    """Optimizer steps done."""
    train_seconds: float = 0.0
    """Time in training steps, evaluation and saving not counted."""
    evaluation_seconds: dict[str, float] = field(default_factory=dict)
    """Time in evaluations, by part (trial/evaluation_clock.py)."""
    tokens_seen: int = 0
    """Tokens that went through the model, padding not counted, over all workers."""
    positions_seen: int = 0
    """The same, padding counted."""
    peak_rates: list[float] = field(default_factory=list)
    """Peak learning rates of the first parameter groups, the adapter's before the head's; those after them keep their
    own rate throughout."""
    fit: Fit = field(default_factory=Fit)
    """How much goes through the model at once."""
    may_checkpoint: bool = False
    """Whether gradient checkpointing may be switched on where a single example does not fit."""
    loss_scale: LossScale | None = None
    """What losses are multiplied by; None: they are not."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.course.num_steps

    @property
    def progress(self) -> float:
        """Share of the steps that is done; all of them, where there are none."""
        return self.step / self.num_steps if self.num_steps else 1.0
