"""What limits on sizes, and the sizes that are planned, say of suggestions before anything is trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from prunedlora.config.corners import corners
from prunedlora.config.space import SpaceEntry
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.planned_size import PlannedSize, Planner


def planned_sizes(planner: Planner, base: TrialConfig, values: Mapping[str, Any]) -> Sequence[PlannedSize]:
    """The candidates of the base with these fields replaced; none of what is no trial."""
    try:
        trial = trial_with(base, values)
    except ValidationError:
        return ()
    return planner(trial)


def too_large(planned: Sequence[PlannedSize], limits: Mapping[str, float]) -> str | None:
    """Why none of the candidates can keep all limits; None where one can, or nothing is known of their sizes."""
    if not planned or any(all(_least(each, axis) <= most for axis, most in limits.items()) for each in planned):
        return None
    smallest = min(planned, key=lambda each: max(_least(each, axis) / most for axis, most in limits.items()))
    return ", ".join(
        f"{axis} is at least {_least(smallest, axis):,g}, above {most:,g}"
        for axis, most in limits.items()
        if _least(smallest, axis) > most
    )


def space_sizes(planner: Planner, base: TrialConfig, space: Mapping[str, SpaceEntry], axis: str) -> tuple[float, float]:
    """Least and most size of candidates at the corners of the space. Raises ValueError where none is known."""
    bounds = [
        each.bounds[axis]
        for values in corners(space)
        for each in planned_sizes(planner, base, values)
        if axis in each.bounds
    ]
    if not bounds:
        raise ValueError(f"telling 'area' needs sizes of {axis} that are known before training: take 'candidates'")
    return min(least for least, _ in bounds), max(most for _, most in bounds if math.isfinite(most))


def _least(planned: PlannedSize, axis: str) -> float:
    """What is not known is no reason."""
    return planned.bounds[axis][0] if axis in planned.bounds else 0.0
