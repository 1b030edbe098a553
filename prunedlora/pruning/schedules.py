"""Schedules: which share of the removal is done at a given progress of training (methods.md 1.3). No torch here.

A schedule is a function of u, the progress between `begin` and `end`, with f(0) = 0, f(1) = 1 and monotone between.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from prunedlora.registry import lookup, register


@dataclass(frozen=True)
class Schedule:
    """A shape of removal; call it with u in [0, 1] to get the share that is done."""

    share: Callable[[float], float]
    needs_end: bool
    """False for a schedule that does all at `begin`: an `end` would have no effect on it."""

    def __call__(self, u: float) -> float:
        return self.share(u)


def between(share: Callable[[float], float]) -> Schedule:
    """Decorator: a schedule that runs from `begin` to `end`."""
    return Schedule(share, needs_end=True)


@register("schedule", "linear")
@between
def linear(u: float) -> float:
    """f = u: the same number at every event."""
    return u


@register("schedule", "cubic")
@between
def cubic(u: float) -> float:
    """f = 1 − (1 − u)³: fast first, few components at a time near the target. https://arxiv.org/abs/1710.01878"""
    return 1 - (1 - u) ** 3


@register("schedule", "cosine")
@between
def cosine(u: float) -> float:
    """f = (1 − cos πu) / 2: slow at both ends."""
    return (1 - math.cos(math.pi * u)) / 2


def _all_at_begin(u: float) -> float:
    return 1.0


one_shot = register("schedule", "one_shot")(Schedule(_all_at_begin, needs_end=False))
"""f = 1: everything at `begin`."""


def removed_share(name: str, progress: float, begin: float, end: float | None) -> float:
    """Share of the removal that is done at `progress`: 0 before `begin`, 1 from `end` on.

    Raises ValueError when `end` is missing for a schedule that needs it, given for one that does not, or not after
    `begin`; UnknownNameError for an unknown schedule.
    """
    schedule: Schedule = lookup("schedule", name)
    if schedule.needs_end and end is None:
        raise ValueError(f"schedule {name!r} needs end")
    if not schedule.needs_end and end is not None:
        raise ValueError(f"end {end:g} has no effect on schedule {name!r}; remove it")
    if end is not None and end <= begin:
        raise ValueError(f"begin {begin:g} must lie before end {end:g}")
    if progress < begin:
        return 0.0
    if end is None:
        return schedule(1.0)
    return schedule((progress - begin) / (end - begin)) if progress < end else 1.0


def num_removed(share: float, total: int) -> int:
    """Components of `total` that are gone when `share` of the removal is done: ⌊share · total + ½⌋."""
    return math.floor(share * total + 0.5)
