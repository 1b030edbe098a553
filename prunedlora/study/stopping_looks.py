"""What the stopping rule sees of a run at a share of its steps: its figure there, and the sizes that it has reached and
has ahead. All of it is checked in here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict

import numpy
from numpy.typing import NDArray

ROUNDING: Final = 1e-9
"""Shares that are no further apart are the same."""


class Run(TypedDict):
    """What is known of one run; shares are of its own steps, in [0, 1], as numbers or, as JSON has keys, their text."""

    sizes: Sequence[float]
    """Planned sizes of its candidates; none, where it has no size to be compared (full fine-tuning)."""
    figures: Mapping[float, float | None]
    """Share → figure there, lower is better (a loss); not finite, or None as JSON has it, where the run diverged."""
    at: NotRequired[Sequence[float]]
    """Share at which each of `sizes` is reached; left out: all at the end."""
    errors: NotRequired[Mapping[float, float]]
    """Share → standard error of the figure."""
    outcomes: NotRequired[Mapping[float, Sequence[float] | NDArray[numpy.float64]]]
    """Share → what the figure is the mean of, example by example, the same examples in the same order in all runs:
    differences between runs are paired then."""
    removals: NotRequired[Sequence[float]]
    """Shares at which components are removed. One at the very share of a figure counts as made before it."""
    ended: NotRequired[float]
    """Share at which it was stopped, paused or failed: it never reaches what lay ahead of it then."""


@dataclass(frozen=True)
class Look:
    """A run as it stands at the share that it is looked at."""

    name: str
    figure: float
    """Not finite where it has diverged."""
    error: float | None
    outcomes: NDArray[numpy.float64] | None
    """(examples,)"""
    since_removal: float | None
    """Share of the steps since the last removal; None before the first."""
    sizes: Sequence[float]
    """Reached, or to come."""
    ahead: Sequence[float]
    """To come."""

    @property
    def bands(self) -> list[int]:
        return sorted({band_of(size) for size in self.ahead})


def look_at(run: Run, name: str, share: float, tolerance: float) -> Look | None:
    """A run at a share, by its figure there or, both within `tolerance`, those next to it (study/stopping.py's verdict
    says how); None where they do not tell. Raises ValueError, naming the run, for bad data in what is compared."""
    figures = by_share(run["figures"], name, "figures")
    removals = [_share(each, name, "removals") for each in _listed(run.get("removals", ()), name, "removals")]
    used = _used(sorted(figures), share, removals, tolerance)
    if not used:
        return None
    sizes = [_positive(size, name) for size in _listed(run["sizes"], name, "sizes")]
    at = _listed(run.get("at", [1.0] * len(sizes)), name, "`at`")
    reached_at = [_share(each, name, "at") for each in at]
    if len(reached_at) != len(sizes):
        raise ValueError(f"run {name!r} has {len(sizes)} sizes, but {len(reached_at)} shares in `at`")
    ended = _share(run.get("ended", 1.0), name, "ended")
    errors, outcomes = (
        by_share(run.get("errors", {}), name, "errors"),
        by_share(run.get("outcomes", {}), name, "outcomes"),
    )
    weight = 0.0 if len(used) == 1 else (share - used[0]) / (used[1] - used[0])
    before = [each for each in removals if each <= share + ROUNDING]
    return Look(
        name=name,
        figure=_between([_figure(figures[each], name) for each in used], weight),
        error=max((_finite(errors[each], name, "standard error") for each in used if each in errors), default=None),
        outcomes=_between([_outcomes(outcomes[each], name) for each in used], weight)
        if all(each in outcomes for each in used)
        else None,
        since_removal=share - max(before) if before else None,
        sizes=[size for size, at in zip(sizes, reached_at, strict=True) if at <= ended + ROUNDING],
        ahead=[size for size, at in zip(sizes, reached_at, strict=True) if at > share + ROUNDING],
    )


def band_of(size: float) -> int:
    """k, for a size in [2^k, 2^(k+1))."""
    return math.frexp(size)[1] - 1


def by_share(values: Any, name: str, what: str) -> dict[float, Any]:
    """With numbers for shares. Raises ValueError, naming the run."""
    if not isinstance(values, Mapping):
        raise ValueError(f"run {name!r} has {what} {values!r}; they are a mapping from shares of its steps")
    return {_share(share, name, what): value for share, value in values.items()}


def _used(shares: Sequence[float], share: float, removals: Sequence[float], tolerance: float) -> list[float]:
    """Of rising shares the one that is this share, or its neighbours on both sides, or the earlier one alone, as far
    as nothing is removed from there on; none where there is no such."""
    same = next((each for each in shares if abs(each - share) <= ROUNDING), None)
    if same is not None:
        return [same]
    before = max((each for each in shares if share - tolerance - ROUNDING <= each < share), default=None)
    after = min((each for each in shares if share < each <= share + tolerance + ROUNDING), default=None)
    if before is None or any(before + ROUNDING < each <= share + ROUNDING for each in removals):
        return []
    if after is None or any(share < each <= after + ROUNDING for each in removals):
        return [before]
    return [before, after]


def _between(values: Sequence[Any], weight: float) -> Any:
    """On the line from the first to the last."""
    return values[0] if len(values) == 1 else (1.0 - weight) * values[0] + weight * values[-1]


def _listed(values: Any, name: str, what: str) -> list[Any]:
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"run {name!r} has {what} {values!r}; they are a list")
    return list(values)


def _number(value: Any, name: str, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"run {name!r} has {what} {value!r}, which is no number") from None


def _share(value: Any, name: str, what: str) -> float:
    share = _number(value, name, f"{what} at")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"run {name!r} has {what} at {value}, which is no share of its steps: those are from 0 to 1")
    return share


def _positive(value: Any, name: str) -> float:
    size = _number(value, name, "a planned size of")
    if not (math.isfinite(size) and size > 0):
        raise ValueError(f"run {name!r} has a planned size of {value}; sizes are finite and above 0")
    return size


def _figure(value: Any, name: str) -> float:
    return math.nan if value is None else _number(value, name, "a figure of")


def _finite(value: Any, name: str, what: str) -> float:
    number = _number(value, name, f"a {what} of")
    if not math.isfinite(number):
        raise ValueError(f"run {name!r} has a {what} of {value}, which cannot be compared")
    return number


def _outcomes(values: Any, name: str) -> NDArray[numpy.float64]:
    try:
        found = numpy.asarray(values, dtype=numpy.float64)
    except (TypeError, ValueError):
        raise ValueError(f"run {name!r} has outcomes {values!r}; they are a list of numbers") from None
    if found.ndim != 1 or len(found) < 2:
        raise ValueError(
            f"run {name!r} has outcomes of {found.size} examples; to be paired they are a list of two at least"
        )
    if not numpy.isfinite(found).all():
        raise ValueError(f"run {name!r} has an outcome of {found[~numpy.isfinite(found)][0]}, which cannot be compared")
    return found
