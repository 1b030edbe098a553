"""After which step of a training components went last: what was removed costs quality for a while."""

import math

from prunedlora.config.methods import section_fields
from prunedlora.config.trial import TrialConfig
from prunedlora.pruning.leg import Leg, legs_of
from prunedlora.pruning.pruning_settings import PruningSettings


def last_removal(config: TrialConfig, num_steps: int, step: int) -> int | None:
    """The last step, of a training of `num_steps`, after which an event of the method was due before the adapter of
    `step` was looked at (one that finds nothing to remove counts); None where none was. Events: removals, masks, and
    components that move between layers. What goes when a rung begins goes after the look at the step that it begins
    with."""
    if config.pruning is not None:
        settings = PruningSettings(**section_fields(config.pruning))
        _, legs = legs_of(settings, num_steps)
        found = [done for leg in legs if (done := _of_leg(leg, num_steps, step)) is not None]
        return max(found, default=None)
    if config.adalora is not None:
        begin, end = round(config.adalora.begin * num_steps), round(config.adalora.end * num_steps)
        return _last_multiple(config.adalora.every_steps, begin + 1, min(step, end))
    if config.l1ra is not None:
        return _last_multiple(round(config.l1ra.every * num_steps), 1, min(step, num_steps - 1))
    return None


def _of_leg(leg: Leg, num_steps: int, step: int) -> int | None:
    """Of one leg: where all goes at once, when its rung begins; else on multiples up to the first step at which its
    target is due."""
    if leg.every_steps is None:
        assert leg.rung is not None
        return leg.rung.begin if leg.rung.begin < step else None
    end = leg.begin if leg.end is None else leg.end
    # Progress as it is worked out of a step: the first one at which it is not below `end`.
    last = next(
        done for done in range(max(0, math.floor(end * num_steps) - 1), num_steps + 1) if done / num_steps >= end
    )
    if step >= last:
        return last
    done = _last_multiple(leg.every_steps, 1, step)
    return done if done is not None and leg.share(done / num_steps) > 0 else None


def _last_multiple(every: int, first: int, last: int) -> int | None:
    """The last multiple of `every` from `first` to `last`."""
    found = last // every * every
    return found if found >= first else None
