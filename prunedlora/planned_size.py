"""PlannedSize: what is known before a training of the size of a candidate that it will make."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunedlora.config.trial import TrialConfig


@dataclass(frozen=True)
class PlannedSize:
    share: float
    """Of the training's steps, at which the candidate is made; in [0, 1]."""
    bounds: Mapping[str, tuple[float, float]]
    """Axis of size → (least, most) that it can have; equal where the size is exact."""


Planner = Callable[["TrialConfig"], Sequence[PlannedSize]]
"""The candidates of a configuration, in the order of their shares; none for full fine-tuning."""
