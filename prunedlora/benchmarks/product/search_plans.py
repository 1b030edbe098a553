"""What the trainings of a recorded grid were planned to leave, as a sweep knows it before it trains: by what they aim
at, and what others of the same aim came to. An allocation per parameter ends below its budget by less than a component,
now here, now there; a sweep does not know that before, so neither does a replay."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from prunedlora.benchmarks.product.search_grid import Place
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PlannedSize

NUMBER_BYTES = 4
"""Of a number in A and B as stored."""

Aim = tuple[str, float, bool]
"""Unit, size in it, and whether it is there from the start, so that it is met exactly."""
Sized = tuple[int, int, int]
"""Step of a candidate, its parameters and its largest rank."""
_AXES = ("adapter_params", "adapter_bytes", "max_rank")


def aims(trial: TrialConfig) -> list[Aim]:
    """What each candidate of a training is to be, in order of the steps. A share of the components of equal layers is a
    mean rank. Raises ValueError for what no table of a search records."""
    adapter, pruning = trial.adapter, trial.pruning
    if adapter is None or adapter.initial_rank is None:
        raise ValueError("a table of a search is of adapters with an initial rank")
    start: Aim = ("mean_rank", float(adapter.initial_rank), True)
    if pruning is None:
        return [start]
    if (ladder := pruning.ladder) is not None:
        return [start, *((ladder.rungs.unit, float(size), False) for size in ladder.rungs.sizes)]
    if pruning.target_rank is not None:
        return [("mean_rank", float(pruning.target_rank), False)]
    assert pruning.target_sparsity is not None
    return [("mean_rank", adapter.initial_rank * (1.0 - pruning.target_sparsity), False)]


def plans(
    trials: Mapping[Place, TrialConfig], candidates: Mapping[Place, Sequence[Sized]], steps: Mapping[Place, int]
) -> dict[Place, tuple[PlannedSize, ...]]:
    """Place → its plan. The budget of an aim is the largest that any candidate of it came to, the least the smallest;
    what is there from the start is exact.

    Of a training that failed the candidates that it did not come to are planned all the same, at the steps of the
    nearest whole one of its schedule. Raises ValueError, naming the place: there is none on record, or a training with
    more candidates than its configuration plans.
    """
    aimed = {place: aims(trial) for place, trial in trials.items()}
    came_to: dict[tuple[str, float], list[dict[str, int]]] = defaultdict(list)
    for place, found in candidates.items():
        if len(found) > len(aimed[place]):
            raise ValueError(f"the training at {place} has {len(found)} candidates; {len(aimed[place])} are planned")
        for (unit, size, _), (_, params, rank) in zip(aimed[place], found, strict=False):
            came_to[unit, size].append(_sizes(params, rank))
    whole = [place for place, found in candidates.items() if len(found) == len(aimed[place])]
    planned = {}
    for place, trial in trials.items():
        alike = [each for each in whole if _times(trials[each]) == _times(trial) and steps[each] == steps[place]]
        if not alike:
            raise ValueError(f"no whole training of the schedule of the one at {place} is on record: record more")
        like = min(alike, key=lambda each: (sum(abs(x - y) for x, y in zip(each, place, strict=True)), each))
        ends = [step for step, _, _ in candidates[like]]
        planned[place] = tuple(
            PlannedSize(end / steps[place], _bounds(came_to[unit, size], is_exact=is_exact))
            for end, (unit, size, is_exact) in zip(ends, aimed[place], strict=True)
        )
    return planned


def _sizes(params: int, rank: int) -> dict[str, int]:
    return dict(zip(_AXES, (params, NUMBER_BYTES * params, rank), strict=True))


def _bounds(found: Sequence[Mapping[str, int]], *, is_exact: bool) -> dict[str, tuple[float, float]]:
    """What is there from the start is as large as the budget, also where others that aim at it end below."""
    bounds: dict[str, tuple[float, float]] = {}
    for axis in _AXES:
        least, most = min(each[axis] for each in found), max(each[axis] for each in found)
        bounds[axis] = (most if is_exact else least, most)
    return bounds


def _times(trial: TrialConfig) -> Any:
    """What decides when candidates are made."""
    return None if trial.pruning is None else trial.pruning.schedule
