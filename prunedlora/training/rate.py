"""The learning rate over a run: linear warm-up, then a decay to zero, as a factor of the peak."""

from math import cos, pi
from typing import Literal

Decay = Literal["constant", "linear", "cosine"]


def rate_factor(step: int, num_steps: int, warmup: float, decay: Decay) -> float:
    """Share of the peak learning rate at optimizer step `step` (0 … num_steps − 1).

    Rises over the first `warmup` share of the steps, never from zero, so that no step is lost; then falls so that the
    step after the last would be at 0.
    """
    warmup_steps = warmup * num_steps
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    left = (num_steps - step) / (num_steps - warmup_steps)
    if decay == "constant":
        return 1.0
    return left if decay == "linear" else 0.5 * (1.0 - cos(pi * left))
