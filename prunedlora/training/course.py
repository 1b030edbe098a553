"""The course of a training: how long it is, the learning rate at every step, where candidates are made, and where a
branch leaves the line and comes back. All of it is known before the first step.

Without a ladder the line is the whole training. A branch (rate "branch" of a ladder) leaves the line at a rung's end:
its steps see the examples that the line sees next, and what it has learned is thrown away once its candidate is made.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from prunedlora.pruning.ladder import Ladder, Rung, rungs_of
from prunedlora.training.rate import Decay, rate_factor


@dataclass(frozen=True)
class Course:
    """Steps are optimizer steps done, over the whole training, branches counted. Raises ValueError for a training too
    short for its ladder."""

    num_steps: int
    """0: nothing is trained; what is there is the only candidate."""
    warmup: float
    """Share of the steps in which the rate rises to its peak: of the trunk's, where a ladder's rates restart; of the
    first that are no branch's, where it has branches."""
    decay: Decay
    ladder: Ladder | None = None
    milestones: Collection[int] = ()
    """Steps after which a candidate is made besides the last; with a ladder its rungs say where."""
    rungs: tuple[Rung, ...] = field(init=False)
    """Trunk and rungs; none without a ladder."""

    def __post_init__(self) -> None:
        rungs = () if self.ladder is None else rungs_of(self.ladder, self.num_steps)
        object.__setattr__(self, "rungs", rungs)

    @property
    def candidates(self) -> frozenset[int]:
        """The steps after which a candidate is made."""
        return frozenset({self.num_steps, *self.milestones, *(rung.end for rung in self.rungs)})

    @property
    def renews_optimizer(self) -> bool:
        """Whether the optimizer's state is cleared at the begin of every rung, once its removal is done."""
        return self.ladder is not None and self.ladder.optimizer_state == "new"

    def rung(self, step: int) -> Rung | None:
        """The rung that a training stands on when `step` steps are done, before the next one's removal."""
        return next((rung for rung in self.rungs if step <= rung.end), None)

    def rung_from(self, step: int) -> Rung | None:
        """The rung, no trunk, that begins when `step` steps are done."""
        return next((rung for rung in self.rungs[1:] if rung.begin == step), None)

    def branch_from(self, step: int) -> Rung | None:
        """The rung whose branch leaves the line when `step` steps are done."""
        return next((rung for rung in self.rungs if rung.branch_steps and rung.branch == step), None)

    def is_in_branch(self, step: int) -> bool:
        """Whether a training that has done `step` steps has the first of a branch behind it and is not back yet."""
        rung = self.rung(step)
        return rung is not None and rung.branch < step

    def position(self, step: int) -> int:
        """Which batch of the endless order the step sees that follows `step` steps: a branch sees what the line sees
        after it."""
        return step - sum(rung.branch_steps for rung in self.rungs if rung.end <= step)

    def rate(self, step: int) -> float:
        """Share of the peak learning rate of the step that follows `step` steps; what a method makes of it (growth
        with the removals) not counted."""
        if self.ladder is None or self.ladder.rate == "continue":
            return rate_factor(step, self.num_steps, self.warmup, self.decay)
        rung = next(rung for rung in self.rungs if step < rung.end)
        if self.ladder.rate == "branch":
            if step >= rung.branch:
                return rate_factor(step - rung.branch, rung.branch_steps, 0.0, self.decay)
            first = next(rung for rung in self.rungs if rung.end > 0)
            return rate_factor(self.position(step), first.branch, self.warmup, "constant")
        length = rung.end - rung.begin
        if rung.number == 0:
            return rate_factor(step, length, self.warmup, self.decay)
        assert self.ladder.warmup is not None
        assert self.ladder.rung_rate is not None
        return self.ladder.rung_rate * rate_factor(step - rung.begin, length, self.ladder.warmup, self.decay)
