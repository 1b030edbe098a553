"""Legs: the stretches of a training that lead to one target each. No torch here.

A schedule has one leg; a ladder has one for each rung. Steps count as optimizer steps done.
"""

from dataclasses import dataclass

from prunedlora.pruning.ladder import Rung, rungs_of
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.pruning.schedules import removed_share
from prunedlora.registry import lookup


@dataclass(frozen=True)
class Leg:
    """When the components between two targets go."""

    schedule: str
    begin: float
    """Progress."""
    end: float | None
    """Progress; None for a schedule that does all at `begin`."""
    every_steps: int | None
    """Events fall on multiples of it; None: there is one, when the rung begins, and none on a step."""
    rung: Rung | None = None
    """Its own of a ladder; None: the leg is the whole training."""

    @property
    def is_at_once(self) -> bool:
        """Whether all goes when the rung begins, and nothing on a step."""
        return self.every_steps is None

    def may_remove(self, step: int, progress: float) -> bool:
        """Whether an event can fall on this step: on multiples of `every_steps` from `begin` on, on any step from `end`
        on."""
        if self.every_steps is None:
            return False
        end = self.begin if self.end is None else self.end
        return progress >= self.begin and (step % self.every_steps == 0 or progress >= end)

    def share(self, progress: float) -> float:
        """The share of its removal that is done at `progress`."""
        return removed_share(self.schedule, progress, self.begin, self.end)


def legs_of(settings: PruningSettings, num_steps: int | None) -> tuple[tuple[Rung, ...], tuple[Leg, ...]]:
    """Trunk and rungs of a training of `num_steps` (none without a ladder), and its legs, in order.

    Raises ValueError for a schedule that cannot be, a ladder without `num_steps` or a training too short for it;
    UnknownNameError for an unknown schedule.
    """
    ladder = settings.ladder
    rungs: tuple[Rung, ...] = ()
    if ladder is None:
        schedule, begin, every_steps = settings.schedule, settings.begin, settings.every_steps
        if schedule is None or begin is None or every_steps is None:
            raise ValueError(f"schedule ({schedule}), begin ({begin}) and every_steps ({every_steps}) must be given")
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}")
        legs = [Leg(schedule, begin, settings.end, every_steps)]
    else:
        others = ("schedule", "begin", "end", "every_steps")
        if given := [name for name in others if getattr(settings, name) is not None]:
            raise ValueError(f"{given[0]} has no effect on a ladder; remove it")
        if num_steps is None:
            raise ValueError("a ladder needs num_steps, the length of the training: its rungs are shares of it")
        rungs = rungs_of(ladder, num_steps)
        # Progress is worked out as that of a step is, so that a rung that spans what a schedule spans is bit for bit
        # that schedule.
        legs = [
            Leg(
                ladder.removal,
                rung.begin / num_steps,
                None if ladder.removal_end is None else rung.removed / num_steps,
                ladder.every_steps,
                rung,
            )
            for rung in rungs[1:]
        ]
        in_events = lookup("schedule", ladder.removal).needs_end
        if in_events != (ladder.every_steps is not None):
            how = "needs" if in_events else "has no use for"
            raise ValueError(f"removal {ladder.removal!r} of a ladder {how} every_steps, got {ladder.every_steps}")
    for leg in legs:
        leg.share(0.0)  # refuses settings that do not fit
    return rungs, tuple(legs)
