"""Planned sizes: how large the candidates of a configuration will be, known before anything is trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunedlora.sizes import Size

if TYPE_CHECKING:
    from prunedlora.config.trial import TrialConfig

PLANNED_AXES = (
    Size.ADAPTER_PARAMS.value,
    Size.ADAPTER_BYTES.value,
    Size.MAX_RANK.value,
    Size.SERVED_SLOT.value,
)
"""Sizes that are known before the training; the others follow from the files that it leaves."""


@dataclass(frozen=True)
class PlannedSize:
    """A candidate that a training will leave, whatever it learns."""

    share: float
    """Of the training's steps, after which it is made, in [0, 1]; 1 where there are none."""
    bounds: Mapping[str, tuple[float, float]]
    """Each of PLANNED_AXES → (least, most), equal where exact; a served slot above all that servers offer is inf."""

    def size(self, axis: str) -> float | None:
        """The one size that it is compared by: the geometric middle of its bounds, exact where they are. So what is
        planned alike is equally large, however wide the bounds. None: nothing is known on this axis."""
        bounds = self.bounds.get(axis)
        return None if bounds is None else bounds[0] if bounds[0] == bounds[1] else math.sqrt(bounds[0] * bounds[1])


Planner = Callable[["TrialConfig"], Sequence[PlannedSize]]
"""A configuration → what is planned of it, in order of share; empty where nothing is known."""


def is_too_large(planned: Sequence[PlannedSize], constraints: Mapping[str, float]) -> bool:
    """Whether no candidate can meet the constraints (axis → limit): each is above one of them for certain. False where
    nothing is planned: then nothing is known."""
    return bool(planned) and all(
        any(one.bounds[axis][0] > limit for axis, limit in constraints.items()) for one in planned
    )
