"""What limits on sizes, and the sizes that are planned, say of suggestions before anything is trained."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from prunedlora.config.corners import corners
from prunedlora.config.space import SpaceEntry
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.planned_size import PlannedSize, Planner, is_too_large
from prunedlora.study.listed_configurations import as_values


def planned_sizes(planner: Planner, base: TrialConfig, values: Mapping[str, Any]) -> Sequence[PlannedSize]:
    """The candidates of the base with these fields replaced; none of what is no trial."""
    try:
        trial = trial_with(base, values)
    except ValidationError:
        return ()
    return planner(trial)


def too_large(planned: Sequence[PlannedSize], limits: Mapping[str, float]) -> str | None:
    """Why no candidate can keep all limits, in words of the one that comes closest; None where one can, or where
    nothing is known."""
    if not is_too_large(planned, limits):
        return None
    closest = min(planned, key=lambda each: max(each.bounds[axis][0] / most for axis, most in limits.items()))
    return ", ".join(
        f"{axis} is at least {closest.bounds[axis][0]:,.0f}, above {most:,g}"
        for axis, most in limits.items()
        if closest.bounds[axis][0] > most
    )


def too_large_params(
    planner: Planner, base: TrialConfig, space: Mapping[str, SpaceEntry], limits: Mapping[str, float]
) -> Callable[[Mapping[str, Any]], bool]:
    """Of parameters of the space: whether no candidate can keep all limits."""
    return lambda params: is_too_large(planned_sizes(planner, base, as_values(params, space)), limits)


def space_sizes(planner: Planner, base: TrialConfig, space: Mapping[str, SpaceEntry], axis: str) -> tuple[float, float]:
    """Least and most size of candidates at the corners of the space. Raises ValueError where none is known."""
    bounds = [
        bound
        for values in corners(space)
        for each in planned_sizes(planner, base, values)
        for bound in each.bounds.get(axis, ())
        if math.isfinite(bound)
    ]
    if not bounds:
        raise ValueError(f"telling 'area' needs sizes of {axis} that are known before training: take 'candidates'")
    return min(bounds), max(bounds)
