"""Planned sizes of a configuration's candidates, from its layers alone: no weights, no training (pruning/size_bounds.py
has the arithmetic)."""

import json
import math
from collections.abc import Iterator, Mapping

from prunedlora.config.methods import section_fields
from prunedlora.config.section import Section
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PlannedSize, Planner
from prunedlora.pruning.allocation import Uniform
from prunedlora.pruning.goals import falling_goals
from prunedlora.pruning.leg import Leg, legs_of
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.pruning.schedules import num_removed
from prunedlora.pruning.size_bounds import SizeBounds, left_of
from prunedlora.pruning.target import Goal, Start
from prunedlora.registry import lookup
from prunedlora.servers.served_slot import served_slot
from prunedlora.sizes import Size
from prunedlora.training.course import Course
from prunedlora.trial import assemble
from prunedlora.trial.cut_sizes import are_cuts_due, target_of

FLOAT32_BYTES = 4
"""Of a number of an adapter, whatever the base is in."""
PLACES = {
    "target_modules", "layers_to_transform", "start_from", "rank_pattern_from", "revision", "other_base",
    "convert_to_lora",
}  # fmt: skip
"""Fields of an adapter that say where in a model it goes."""


def placement(config: TrialConfig) -> str:
    """What of a configuration decides which layers of a model are adapted, and whether they can be."""
    adapter = config.adapter and config.adapter.model_dump(include=PLACES)
    return json.dumps([config.method, config.head_modules, adapter])


def layers_key(config: TrialConfig) -> str:
    """What decides the layers and, of an adapter that exists, their ranks."""
    return _canonical(config.model) + config.data.task + placement(config)


def data_key(config: TrialConfig) -> str:
    """What decides how many training examples there are."""
    return _canonical(config.data)


def _canonical(section: Section) -> str:
    """Whatever the order of what is given by name: a store sorts it."""
    return json.dumps(section.model_dump(mode="json"), sort_keys=True)


def planner(layers: Mapping[str, Start], num_train: Mapping[str, int]) -> Planner:
    """Plans configurations by what a preflight has found: `layers` by `layers_key`, numbers of training examples by
    `data_key`. Every plan is made once.

    A plan is empty where the layers or the length are not among these, and where the layers cannot come to the sizes:
    then the trial says so.
    """
    plans: dict[str, tuple[PlannedSize, ...]] = {}

    def plan(config: TrialConfig) -> tuple[PlannedSize, ...]:
        place, length = layers_key(config), config.training.num_steps
        if length is None and (found := num_train.get(data_key(config))) is not None:
            length = assemble.num_steps(config, found)
        start = layers.get(place)
        if start is None or length is None or config.adapter is None:
            return ()
        sections = (config.pruning, config.svd, config.l1ra, config.adalora, config.cuts)
        written = ["" if section is None else section.model_dump_json() for section in sections]
        rank, milestones = config.adapter.initial_rank, config.evaluation.milestones
        key = json.dumps([place, length, rank, milestones, *written])
        if key not in plans:
            try:
                plans[key] = planned_sizes(config, start if rank is None else start.of_rank(rank), length)
            except ValueError:
                plans[key] = ()
        return plans[key]

    return plan


def planned_sizes(config: TrialConfig, start: Start, num_steps: int) -> tuple[PlannedSize, ...]:
    """What a training of the configuration will leave, in order of share, of cuts that are planned to be equally large
    one; none of full fine-tuning. Cuts that certainly take nothing are left out; one that is planned may still be
    passed over.

    `start`: the layers as they are attached. Raises ValueError for a target, a rung or a cut that they cannot come to,
    and for a training too short for its ladder.
    """
    if config.full is not None:
        return ()
    bounds, found = _BoundsAt(config, start, num_steps), list[PlannedSize]()
    ladder = None if config.pruning is None else section_fields(config.pruning).get("ladder")
    optimizer = config.optimizer
    course = Course(num_steps, optimizer.warmup, optimizer.decay, ladder, assemble.milestone_steps(config, num_steps))
    for step in sorted(course.candidates):
        share, there = step / num_steps if num_steps else 1.0, bounds(step)
        found.append(_planned(share, there))
        cuts = [_planned(share, cut) for cut in _cuts(config, start, there, step, course)]
        found += [cut for number, cut in enumerate(cuts) if cut not in cuts[:number]]
    return tuple(found)


def _planned(share: float, there: SizeBounds) -> PlannedSize:
    params, rank = there.num_parameters, there.max_rank
    slots = [served_slot(each) for each in rank]
    least, most = (math.inf if slot is None else slot for slot in slots)
    return PlannedSize(
        share,
        {
            Size.ADAPTER_PARAMS.value: params,
            Size.ADAPTER_BYTES.value: (FLOAT32_BYTES * params[0], FLOAT32_BYTES * params[1]),
            Size.MAX_RANK.value: rank,
            Size.SERVED_SLOT.value: (least, most),
        },
    )


class _BoundsAt:
    """What is known of the adapter after a step at which a candidate is made; called with rising steps."""

    def __init__(self, config: TrialConfig, start: Start, num_steps: int) -> None:
        self._config, self._start, self._num_steps = config, start, num_steps
        self._there = SizeBounds.of(start)
        if config.pruning is not None:
            settings = PruningSettings(**section_fields(config.pruning))
            self._settings = settings
            self._rungs, self._legs = legs_of(settings, num_steps)
            allocation = lookup("allocation", settings.allocation)
            self._goals = falling_goals(allocation.goal, start, settings.targets)

    def __call__(self, step: int) -> SizeBounds:
        config, num_layers = self._config, self._start.size_of_rank_1("components")
        if config.adalora is not None:
            begin, end = (round(share * self._num_steps) for share in (config.adalora.begin, config.adalora.end))
            total, final = self._start.size("components"), config.adalora.target_rank * num_layers
            if step <= begin:
                return self._there
            # Until the budget is final, masked triplets may come back between two allocations.
            return SizeBounds.of_any_ranks(
                self._start, 0, self._start.max_rank, (final, final if step >= end else total)
            )
        if config.l1ra is not None:
            total = self._start.size("components")
            return SizeBounds.of_any_ranks(self._start, 1, total - num_layers + 1, (total, total))
        if config.pruning is not None:
            self._prune(step)
        return self._there

    def _prune(self, step: int) -> None:
        """Up to what has gone after `step`: towards the target, or to the rung that the step is the end of."""
        if self._settings.ladder is None:
            event = _last_event(self._legs[0], step, self._num_steps)
            if event is not None:
                share = self._legs[0].share(event / self._num_steps)
                self._remove(self._goals[0], num_removed(share, self._goals[0].num), completes=share == 1.0)
            return
        for rung, goal in zip(self._rungs[1:], self._goals, strict=True):
            if rung.end == step:
                self._remove(goal, goal.num, completes=True)

    def _remove(self, goal: Goal, num: int, *, completes: bool) -> None:
        """`num` of the start in the goal's unit are gone, and where it `completes` all above the largest rank."""
        start, block = self._start, self._settings.block
        if not isinstance(lookup("allocation", self._settings.allocation), Uniform):
            left = left_of(start, goal.unit, num, block)
            floor = -(-self._settings.min_rank // block) * block
            self._there = self._there.removed_to(goal.unit, left, floor)
            if completes and goal.most_rank is not None:
                self._there = self._there.capped(goal.most_rank)
        else:
            self._there = self._there.capped(start.max_rank - num // block * block)


def _last_event(leg: Leg, step: int, num_steps: int) -> int | None:
    """The last step up to this one on which an event can fall."""
    assert leg.every_steps is not None
    steps = step, step // leg.every_steps * leg.every_steps
    return next((one for one in steps if one > 0 and leg.may_remove(one, one / num_steps)), None)


def _cuts(config: TrialConfig, start: Start, there: SizeBounds, step: int, course: Course) -> Iterator[SizeBounds]:
    """Of every cut that may take something of what is there."""
    settings = config.free_cuts
    if settings is None or not are_cuts_due(settings, step, course):
        return
    for size in settings.sizes.sizes:
        for name in settings.allocations:
            rule, target = lookup("allocation", name), target_of(settings, size)
            goal = rule.goal(start, target)
            if not isinstance(rule, Uniform):
                left = left_of(start, goal.unit, goal.num, target.block)
                if there.totals[goal.unit][1] > left[1]:
                    yield there.removed_to(goal.unit, left, target.floor)
            elif there.max_rank[1] > (cap := start.max_rank - goal.num):
                yield there.capped(cap)
