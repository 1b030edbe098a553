"""Loss scaling, for training in float16: gradients below the type's smallest number, 6e-8, would be zeros.

A step's loss is multiplied by a power of two before the backward pass, and what comes out divided by it: exact, but for
numbers that would have been lost, and for those that are now too large. A step where any is begins anew with half of
the scale; none is skipped. https://arxiv.org/abs/1710.03740
"""

from dataclasses import dataclass

import torch

INITIAL = 2.0**16
STEPS_TO_DOUBLE = 2000
"""Steps without an overflow after which the scale is doubled. Both numbers are those of torch.amp.GradScaler."""


@dataclass
class LossScale:
    """What the loss is multiplied by; equal on all workers."""

    scale: float = INITIAL
    """A power of two, at least 1."""
    num_steps: int = 0
    """Steps since the last change, or since the last overflow."""

    def halve(self) -> bool:
        """After an overflow: whether there was anything to halve."""
        if self.scale <= 1:
            return False
        self.scale, self.num_steps = self.scale / 2, 0
        return True

    def count_step(self) -> None:
        """After a finite step: doubles the scale when it is time to try."""
        self.num_steps += 1
        if self.num_steps == STEPS_TO_DOUBLE:
            self.scale, self.num_steps = self.scale * 2, 0


def loss_scale_for(dtype: torch.dtype) -> LossScale | None:
    """What a training in `dtype` begins with; None: its loss is not scaled, since its type has float32's range."""
    return LossScale() if dtype == torch.float16 else None
