"""Stopping: whether a search ends trials early that other trials have left behind, where it looks, and what is left."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from prunedlora.config.section import Section
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PLANNED_AXES


class StoppingConfig(Section):
    """A trial of the search is looked at on the way: by its loss on a few examples, beside trials as far on as it is.
    It is stopped where, at every size that it has still ahead, another one that is no larger, by the sizes that are
    planned, is ahead of it by the margin (study/stopping.py). Baselines are compared with, and never stopped; a trial
    of which no size is known before it is trained is neither."""

    then: Literal["stop", "pause"] = "stop"
    """What becomes of it. stop: it ends, and its candidates count. pause: the same, and its checkpoint stays; once
    nothing is left to ask it is judged again, by what the others have come to, and goes on where nothing beats it.
    Checkpoints of those that stay stopped are deleted then (retention.checkpoints: until_completed)."""
    looks: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(default=[0.1])
    """Shares of the steps at which is looked, besides a trial's own candidates on the way (milestones, rungs). A look
    is no candidate."""
    examples: PositiveInt | None = 200
    """Validation examples of a look, the first; of fewer there are, all of them, unless the number is given. None: all.
    """
    margin: NonNegativeFloat | None = None
    """How much lower the other's loss must be, in nats per target, besides the noise of the difference; None: the
    rule's own."""

    @model_validator(mode="after")
    def _rising_looks(self) -> Self:
        if any(after <= before for before, after in pairwise(self.looks)):
            raise ValueError(f"looks must rise: {self.looks}")
        return self

    @property
    def asked_examples(self) -> int | None:
        """Their number, where there must be so many."""
        return self.examples if "examples" in self.model_fields_set else None


def stopping_problems(
    stopping: StoppingConfig | None, size: str, num_trials: int, trials: Iterable[TrialConfig]
) -> list[str]:
    """What a sweep has no use for in its stopping. `size`: the objective that is one; `trials`: the search's, as far as
    it takes to see that one of them has a candidate on the way."""
    if stopping is None:
        return []
    if num_trials == 0:
        return ["stopping has no effect with num_trials 0: baselines are never stopped; set stopping to null"]
    if size not in PLANNED_AXES:
        return [
            f"stopping compares trials by the size that they are going to have, and {size!r} is not known before the "
            f"training: take one of {', '.join(PLANNED_AXES)} as objective, or set stopping to null"
        ]
    if not stopping.looks and not any(map(_has_candidates_on_the_way, trials)):
        return [
            "stopping has nothing to look at: no looks, and trials of one candidate, at their end; give looks: [0.1], "
            "evaluation.milestones or a ladder, or set stopping to null"
        ]
    return []


def _has_candidates_on_the_way(trial: TrialConfig) -> bool:
    ladder = None if trial.pruning is None else trial.pruning.ladder
    return bool(trial.evaluation.milestones) or (
        ladder is not None and (ladder.trunk > 0 or len(ladder.rungs.sizes) > 1)
    )
