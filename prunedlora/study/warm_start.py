"""Warm start: what trials of earlier sweeps say of this one's settings, on this sweep's scale, until they are wrong.

What an earlier sweep measured is on another scale: another task, model, or length of training. Only its order is worth
something. So of each source
- what it predicts for a setting of this sweep is what its nearest setting came to (`Prediction.of`);
- its values are carried over by matching quantiles of what it predicted for this sweep's trials with those of what they
  came to (`carried`). That is monotone in each objective, so no trial of a source comes to beat another of it that it
  did not beat; it is right when this sweep's trials are no fair sample of its settings, as they never are; and without
  any trial of this sweep it leaves the values as they are, which then are alone among themselves;
- it is dropped when its comparisons came out wrong more than twice as often as right (`Compared.holds`): of two trials
  of this sweep of which it says that the first is no larger and better, the first is no larger and worse.

Until sources are judged, every second ask knows nothing of them (`is_control`): trials that follow their advice alone
do not show whether it is any good.

A source is worth MOST_TOLD trials at first and half of that whenever this sweep's own have doubled from FEWEST_JUDGED
on, as a prior that fades: earlier sweeps are many trials, and their optimum is near this one's but not in its place.
Values, numbers and judgement follow from the first `stage(n)` of n trials told, so that they change when n doubles, and
the study is built anew so often and no more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunedlora.config.space import IntRange, LogInt, LogUniform, SpaceEntry, Uniform
from prunedlora.sizes import SIZES

FEWEST_JUDGED = 8
"""Trials of this sweep that must be told before a source is judged."""
FEWEST_WRONG = 3
"""Comparisons that must have come out wrong before a source is dropped."""
WRONG_TO_RIGHT = 2
"""Near the optimum, where a search goes, trials differ by little but noise: there a source is wrong as often as right,
and no harm."""
MOST_JUDGED = 256
"""So many at most are looked at: beside more, nothing that earlier sweeps tell is worth much."""
MOST_TOLD = 32
"""Trials that the study is told of all sources together, while it is told of at most FEWEST_JUDGED own ones."""


@dataclass(frozen=True)
class WarmTrial:
    """A trial of an earlier sweep as the study is told of it."""

    source: str
    """URI of its store."""
    params: Mapping[str, Any]
    """As an Ask has them, of this sweep's space."""
    values: Sequence[float]
    """One per objective, on this sweep's scale."""


@dataclass(frozen=True)
class Compared:
    """What became of a source's comparisons."""

    num_right: int
    num_wrong: int

    @property
    def holds(self) -> bool:
        """Whether the source is worth being told on; one that compared nothing has not been wrong."""
        return self.num_wrong < FEWEST_WRONG or self.num_wrong <= WRONG_TO_RIGHT * self.num_right


def stage(num_told: int) -> int:
    """The largest power of two that is at most `num_told` and MOST_JUDGED; 0 for 0."""
    return min(MOST_JUDGED, 1 << (num_told.bit_length() - 1)) if num_told else 0


def num_worth(num_told: int) -> int:
    """How many trials all sources together are worth beside so many own ones."""
    return math.ceil(MOST_TOLD * FEWEST_JUDGED / max(FEWEST_JUDGED, num_told))


def is_control(num_searched: int, num_told: int) -> bool:
    """Whether the ask after so many of the search is made without sources, so many trials being told."""
    return num_told < FEWEST_JUDGED and num_searched % 2 == 1


class Prediction:
    """What the trials of one source came to, looked up by setting."""

    def __init__(self, trials: Sequence[WarmTrial], space: Mapping[str, SpaceEntry]) -> None:
        """`trials`: at least one, with the source's own values."""
        self._space = space
        self._places = [_places(trial.params, space) for trial in trials]
        self._values = np.array([tuple(trial.values) for trial in trials])

    def of(self, params: Mapping[str, Any]) -> tuple[float, ...]:
        """One value per objective: of the nearest setting, the mean where several are."""
        place = _places(params, self._space)
        distances = np.array([_distance(place, other) for other in self._places])
        nearest = distances <= distances.min() + 1e-12
        return tuple(self._values[nearest].mean(axis=0).tolist())


def carried(value: float, predicted: Sequence[float], came: Sequence[float]) -> float:
    """A source's value on this sweep's scale: rises with `value`.

    `predicted`, `came`: what it said of this sweep's trials, and what they came to, as many; the smallest of the ones
    stands for the smallest of the others, and so on, linear between. Beyond them it goes on at the slope of the whole
    range, 1 where they have none.
    """
    if not predicted:
        return value
    low, *_ = said = sorted(predicted)
    high = said[-1]
    first, *_ = real = sorted(came)
    slope = (real[-1] - first) / (high - low) if high > low and real[-1] > first else 1.0
    if value < low:
        return first + (value - low) * slope
    if value > high:
        return real[-1] + (value - high) * slope
    places = sorted(set(said))
    means = [float(np.mean([real[i] for i, other in enumerate(said) if other == place])) for place in places]
    return float(np.interp(value, places, means))


def compare(
    predicted: Sequence[Sequence[float]], came: Sequence[Sequence[float]], objectives: Mapping[str, str]
) -> Compared:
    """How often a source was right of two trials of this sweep. `predicted`, `came`: for each trial its values.

    It compares the two where the first is no larger and better by what it predicted. What came of that is counted where
    the first is no larger in truth either, since sizes follow from settings and hide what quality has to say.
    """
    names = list(objectives)
    (size,) = (i for i, name in enumerate(names) if name in SIZES)
    quality = 1 - size
    sign = -1.0 if objectives[names[quality]] == "maximize" else 1.0
    said, real = (np.array(values, dtype=float).reshape(-1, 2) for values in (predicted, came))
    cost, truth = sign * said[:, quality], sign * real[:, quality]
    claims = (said[:, None, size] <= said[None, :, size]) & (cost[:, None] < cost[None, :])
    claims &= real[:, None, size] <= real[None, :, size]
    return Compared(
        int((claims & (truth[:, None] < truth[None, :])).sum()), int((claims & (truth[:, None] > truth[None, :])).sum())
    )


def spread(num: int, most: int) -> list[int]:
    """At most `most` of the numbers below `num`, evenly and from the first on; with the last where they are several."""
    if num <= most:
        return list(range(num))
    return sorted({round(i) for i in np.linspace(0, num - 1, most).tolist()})


def _places(params: Mapping[str, Any], space: Mapping[str, SpaceEntry]) -> dict[str, Any]:
    return {path: _place(value, space[path]) for path, value in params.items()}


def _place(value: Any, entry: SpaceEntry) -> Any:
    """Between 0 and 1 in a range; a choice is a place of its own."""
    match entry:
        case Uniform():
            (low, high), scaled = entry.uniform, float(value)
        case IntRange():
            (low, high), scaled = entry.bounds, float(value)
        case LogUniform():
            low, high, scaled = *map(math.log, entry.log_uniform), math.log(value)
        case LogInt():
            low, high, scaled = *map(math.log, entry.log_int), math.log(value)
        case _:
            return repr(value)
    return (scaled - low) / (high - low)


def _distance(some: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Sum over parameters; 1 for another choice, or where only one has it."""
    return sum(
        abs(some[path] - other[path])
        if isinstance(some.get(path), float) and isinstance(other.get(path), float)
        else float(some.get(path) != other.get(path))
        for path in sorted(some.keys() | other.keys())
    )
