"""Sizes of free cuts: how many cuts a configuration asks for, and whether its sizes can take anything."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from prunedlora.config.cuts import CutsConfig
from prunedlora.config.methods import PruningConfig, section_fields
from prunedlora.config.trial import TrialConfig
from prunedlora.pruning.allocation import Allocation
from prunedlora.pruning.target import Goal, Start, Target, targets_of
from prunedlora.registry import lookup
from prunedlora.results.record import Cut
from prunedlora.settings_error import SettingsError
from prunedlora.training.course import Course


@dataclass(frozen=True)
class PlannedCuts:
    """How many cuts a configuration asks for, known from it alone."""

    num_places: int
    """Candidates that are cut."""
    most_per_place: int
    """Cuts of each at most; those that take nothing, or leave what another one leaves, are not made."""
    screen_examples: int | None
    """Validation examples, at most, on which the loss of every cut is measured first; None: all cuts are evaluated."""
    calibration_examples: int | None
    """Training examples, before they are rounded up to whole batches, that the metric of basis whitened is made of at
    each place; None: no cut needs it."""


def planned_cuts(config: TrialConfig) -> PlannedCuts:
    """What the configuration asks for in cuts at most: `most_per_place` of zero where there are none."""
    settings = config.free_cuts
    if settings is None:
        return PlannedCuts(0, 0, None, None)
    num_places = 1
    if settings.at == "every_rung":
        assert config.pruning is not None
        assert config.pruning.ladder is not None
        num_places += len(config.pruning.ladder.rungs.sizes)
    return PlannedCuts(num_places, settings.num_cuts, settings.screen_examples, settings.calibration_examples)


def asked_cuts(settings: CutsConfig) -> Iterator[Cut]:
    """All that are asked for of one adapter, in the order in which they are made."""
    for size, basis, allocation in product(settings.sizes.sizes, settings.bases, settings.allocations):
        yield Cut(basis=basis, allocation=allocation, unit=settings.sizes.unit, size=size)


def are_cuts_due(settings: CutsConfig, step: int, course: Course) -> bool:
    """Whether the candidate that is made after `step` is to be cut."""
    if settings.at == "end":
        return step == course.num_steps
    if settings.at == "start":
        return step == 0
    return any(step == rung.end for rung in course.rungs)


def target_of(settings: CutsConfig, size: float) -> Target:
    """One of the sizes, as allocations know it."""
    return Target(settings.sizes.unit, size, settings.min_rank)


def checked_start(config: TrialConfig, start: Start) -> Start:
    """`start`, the layers as they are attached, of a configuration with cuts.

    Raises SettingsError for a size that they cannot be cut to, and for cuts at the end that take nothing of what
    pruning certainly leaves: each size of a ladder's training; of another one, whose target a search may vary beside
    fixed sizes, only where that holds of all sizes.
    """
    settings = config.free_cuts
    assert settings is not None
    last = None if config.pruning is None or settings.at != "end" else _Last.of(config.pruning, start)
    idle: list[str] = []
    for size, allocation in product(settings.sizes.sizes, settings.allocations):
        target, rule = target_of(settings, size), lookup("allocation", allocation)
        try:
            goal = rule.goal(start, target)
        except ValueError as error:
            raise SettingsError(f"cuts by allocation {allocation!r}: {error}") from error
        if last is not None and last.is_below(rule, goal):
            idle.append(f"cuts by allocation {allocation!r}: {target} takes nothing of what pruning leaves")
    if last is not None and idle and (last.target.rung is not None or len(idle) == settings.num_cuts_per_basis):
        raise SettingsError(f"{idle[0]}: {last.target}; take smaller cuts.sizes")
    return start


@dataclass(frozen=True)
class _Last:
    """What a training's pruning ends with."""

    target: Target
    allocation: str
    goal: Goal
    start: Start
    ranks: Sequence[int]
    """Of the layers at the start."""
    widths: Sequence[int]

    @classmethod
    def of(cls, pruning: PruningConfig, start: Start) -> "_Last | None":
        """None where the target cannot be, which the method tells."""
        ladder = section_fields(pruning).get("ladder")
        target = targets_of(ladder, pruning.target_sparsity, pruning.target_rank, pruning.min_rank, pruning.round_to)[
            -1
        ]
        try:
            goal = lookup("allocation", pruning.allocation).goal(start, target)
        except ValueError:
            return None
        layers = [layer for layer, num in start.layers.items() for _ in range(num)]
        return cls(target, pruning.allocation, goal, start, *zip(*layers, strict=True))

    def is_below(self, rule: Allocation, goal: Goal) -> bool:
        """Whether a cut by `rule` to `goal` takes nothing for certain. Of layers that competed only how much is gone
        of what was counted is known before, of layers under one cap the rank of each."""
        if self.allocation == "uniform":
            cap = self.start.max_rank - self.goal.num
            left = [min(rank, cap) for rank in self.ranks]
            return rule.num_removed(self.start, left, self.widths, goal) >= goal.num
        if rule is lookup("allocation", "uniform") or self.goal.unit != goal.unit:
            return False
        return self.goal.num >= goal.num
