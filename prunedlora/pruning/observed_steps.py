"""Which steps are observed: those that still count, in an exponential average, at a removal. No torch here.

An average with decay d gives what came before its last k steps a share of at most dᵏ. So watching begins k steps
before the first event of a leg, where dᵏ is NEGLIGIBLE, and ends when the leg's target is reached; before it, and
between the legs of a ladder, training is plain LoRA. All of it follows from the schedule and the length of the
training, so that all workers, and a training that is resumed, say the same.
"""

import math

from prunedlora.pruning.leg import legs_of
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.pruning.schedules import num_removed

NEGLIGIBLE = 1e-3
"""Share of an average that is given up. Tried on a small network, 120 removals each in six forms: all 720 were those of
averages over all steps (at 1e-2: 718; with a decay of 0.82 in the place of 0.8: 709)."""


def num_that_count(decay: float) -> int:
    """The fewest last steps, k ≥ 1, before which nothing counts any more: `decay`ᵏ ≤ NEGLIGIBLE."""
    return 1 if decay == 0.0 else max(1, math.ceil(math.log(NEGLIGIBLE) / math.log(decay)))


def first_event(settings: PruningSettings, num_steps: int, num_to_remove: int, least_due: int, index: int = 0) -> int:
    """The step (from 1) of a training of `num_steps` on which its leg number `index` has its first removal, or after
    which it has it: where a rung of a ladder begins. Later by what the leg before has taken beyond its own target.

    `num_to_remove` from target to target, `least_due` at once, in what the allocation counts.
    """
    _, legs = legs_of(settings, num_steps)
    leg = legs[index]
    last = num_steps
    if leg.rung is not None:
        if leg.is_at_once:
            return leg.rung.begin
        last = leg.rung.branch
    for step in range(max(1, math.floor(leg.begin * num_steps)), last):
        progress = step / num_steps
        if leg.may_remove(step, progress) and num_removed(leg.share(progress), num_to_remove) >= least_due:
            return step
    return last


def first_observed(
    settings: PruningSettings, num_steps: int, num_to_remove: int, least_due: int, index: int = 0
) -> int:
    """The first step (from 1) that is observed for leg number `index`; 1 where nothing is averaged.

    Steps of a branch do not count: what they have seen is thrown away with it.
    """
    if settings.ema_decay is None:
        return 1
    event = first_event(settings, num_steps, num_to_remove, least_due, index)
    first = event - num_that_count(settings.ema_decay) + 1
    rungs, _ = legs_of(settings, num_steps)
    for rung in reversed(rungs):
        if first <= rung.end <= event:
            first -= rung.branch_steps
    return max(1, first)
