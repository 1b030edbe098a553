"""The plan of a pruning: how much is to go on which step, from its goals and the legs that lead to them.

All of it follows from the settings, the layers at the start and the length of the training, so that all workers, and a
training that is resumed, say the same.
"""

from collections.abc import Sequence

from prunedlora.pruning.allocation import Allocation, Demand
from prunedlora.pruning.goals import falling_goals
from prunedlora.pruning.ladder import Rung
from prunedlora.pruning.leg import legs_of
from prunedlora.pruning.observed_steps import first_observed
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.pruning.schedules import num_removed
from prunedlora.pruning.target import Start
from prunedlora.registry import lookup


class Plan:
    """Of one training; it remembers nothing. `ranks` below are the present ones of all layers."""

    def __init__(
        self, settings: PruningSettings, ranks: Sequence[int], widths: Sequence[int], num_steps: int | None
    ) -> None:
        """`ranks` at the start, `widths` parameters of one component, per layer.

        Raises ValueError for a target, a schedule or a rung that cannot be, UnknownNameError for an unknown name.
        """
        self.rungs: tuple[Rung, ...]
        """Trunk and rungs; none without a ladder."""
        self.rungs, self._legs = legs_of(settings, num_steps)
        self._settings = settings
        self._widths = list(widths)
        self._start = Start.of(ranks, widths)
        self._allocation: Allocation = lookup("allocation", settings.allocation)
        self._goals = falling_goals(self._allocation.goal, self._start, settings.targets)
        self._first_observed = [1] * len(self._goals)
        if num_steps is not None:
            before = 0
            for index, goal in enumerate(self._goals):
                least = self._allocation.least_due(goal, settings.block)
                self._first_observed[index] = first_observed(settings, num_steps, goal.num - before, least, index)
                before = goal.num

    def is_done(self, ranks: Sequence[int]) -> bool:
        """Whether the last goal is reached."""
        return self._is_reached(len(self._goals) - 1, ranks)

    def first_observed(self, ranks: Sequence[int]) -> int:
        """The first step (from 1) that is observed for the next removals: those towards the first goal that is not
        reached."""
        reached = (self._is_reached(index, ranks) for index in range(len(self._goals)))
        return next((first for first, done in zip(self._first_observed, reached, strict=True) if not done), 1)

    def done_share(self, ranks: Sequence[int]) -> float:
        """How much of what is to go in all is gone, in what the goals count."""
        num = self._goals[-1].num
        return min(self._num_done(ranks) / num, 1.0) if num else 1.0

    def growth(self, ranks: Sequence[int]) -> float:
        """Mean rank at the start / mean rank now, of the layers that have any; 1 when nothing is left."""
        left = [rank for rank in ranks if rank]
        components, layers = self._start.size("components"), self._start.size("components", 1)
        return components * len(left) / (layers * sum(left)) if left else 1.0

    @property
    def removes_at_once(self) -> bool:
        """Whether rungs remove all when they begin, between two steps."""
        return any(leg.is_at_once for leg in self._legs)

    def may_remove(self, step: int, progress: float) -> bool:
        """Whether an event can fall on this step: a matter of the settings alone."""
        index = self._leg(step)
        return index is not None and self._legs[index].may_remove(step, progress)

    def demand(self, step: int, progress: float, ranks: Sequence[int]) -> Demand | None:
        """What an event on this step is to remove; None: there is none."""
        index = self._leg(step)
        if index is None or not self._legs[index].may_remove(step, progress):
            return None
        return self._demand(index, self._legs[index].share(progress), ranks)

    def demand_of_rung(self, step: int, ranks: Sequence[int]) -> Demand | None:
        """What the rung that begins when `step` steps are done is to remove at once; None: nothing."""
        for index, leg in enumerate(self._legs):
            if leg.rung is not None and leg.rung.begin == step and leg.is_at_once:
                return self._demand(index, 1.0, ranks)
        return None

    def _leg(self, step: int) -> int | None:
        """Index of the leg that optimizer step number `step` belongs to; None on a ladder's trunk and in branches,
        whose adapters are thrown away."""
        for index, leg in enumerate(self._legs):
            if leg.rung is None or leg.rung.begin < step <= leg.rung.branch:
                return index
        return None

    def _demand(self, index: int, share: float, ranks: Sequence[int]) -> Demand | None:
        """What is to go when `share` of a leg's removal is to be done; whatever is above the goal's largest rank goes
        with the last of it."""
        goal, block = self._goals[index], self._settings.block
        before = self._goals[index - 1].num if index else 0
        num = before + num_removed(share, goal.num - before) - self._num_done(ranks)
        completes = share == 1.0
        if num < self._allocation.least_due(goal, block) and (not completes or self._is_reached(index, ranks)):
            return None
        return Demand(max(num, 0), self._settings.min_rank, block, goal.most_rank, goal.unit, completes)

    def _num_done(self, ranks: Sequence[int]) -> int:
        return self._allocation.num_removed(self._start, ranks, self._widths, self._goals[-1])

    def _is_reached(self, index: int, ranks: Sequence[int]) -> bool:
        goal = self._goals[index]
        is_low = goal.most_rank is None or max(ranks) <= goal.most_rank
        return is_low and self._num_done(ranks) >= goal.num
