"""A search replayed on a recorded table: the live study asks, the live rule stops, and steps are the clock.

A run takes its place in a slot, passes its looks and candidates at the steps of its training on record, and is charged
up to its last step only. As in a sweep, one more ask than there are slots is out: each is made when the one before it
begins, by what has ended until then.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prunedlora.benchmarks.ladder_answers import mean_gain
from prunedlora.benchmarks.product.search_grid import Place
from prunedlora.benchmarks.product.search_table import Laboratory, Training
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.study.kept_study import KeptStudy
from prunedlora.study.rebuild import ask_seed
from prunedlora.study.stopping import verdict
from prunedlora.study.stopping_looks import Run
from prunedlora.study.suggest import as_params, fixed


@dataclass(frozen=True)
class Stopping:
    """When and how the rule is asked."""

    looks: tuple[float, ...] = (0.1,)
    """Shares of the steps."""
    at_candidates: bool = True
    """Whether a candidate's own evaluation is a look too."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of `verdict`; left out: its defaults."""


@dataclass(frozen=True)
class Variant:
    """A way to search."""

    kind: str
    """The table's part that it searches."""
    sampler: str
    study: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of KeptStudy."""
    stopping: Stopping | None = None


@dataclass(frozen=True)
class Course:
    """What one search came to."""

    points: tuple[tuple[int, float], ...]
    """(steps of all runs together, hypervolume of all candidates until then), rising."""
    num_runs: int
    num_stopped: int

    def at(self, steps: float) -> float:
        """The hypervolume that so many steps have brought."""
        return max((area for spent, area in self.points if spent <= steps), default=0.0)

    def steps_to(self, area: float) -> int | None:
        """Steps until the hypervolume is at least this; None where it never is."""
        return next((spent for spent, reached in self.points if reached >= area - 1e-12), None)


Area = Callable[[Mapping[int, float]], float]
"""{parameters: best quality} → hypervolume."""


def area_over(axis: tuple[int, int], base: float) -> Area:
    """As in the ladders' tables (mean_gain): along log10 of the size, from the smallest to twice the largest, above the
    base's quality."""
    return lambda qualities: mean_gain(qualities, base, *axis)


@dataclass
class _Out:
    """A run in a slot."""

    name: str
    ask: Ask
    place: Place
    training: Training
    began: int
    """Steps by the clock, at which it did."""
    step: int = 0
    """Its own, done."""


class Replay:
    """One search of a table, from its first ask to its budget."""

    def __init__(self, laboratory: Laboratory, variant: Variant, *, seed: int, num_slots: int, area: Area) -> None:
        self._laboratory = laboratory
        self._variant = variant
        self._seed = seed
        self._num_slots = num_slots
        self._area = area
        grid = laboratory.grid
        self._space = grid.searched()
        settings = dict(variant.study)
        if settings.pop("planned", False):
            settings |= {"trial": grid.base, "planner": laboratory.planner}
        self._study = KeptStudy(self._space, laboratory.objectives, variant.sampler, seed, **settings)
        self._asks: list[Ask] = []
        self._told: dict[int, TrialRecord] = {}
        self._tried: set[Place] = set()
        self._waiting: deque[tuple[Ask, Place]] = deque()
        self._runs: dict[str, Run] = {}
        self._out: dict[int, _Out] = {}
        self._best: dict[int, float] = {}
        self._num_stopped = 0
        self._spent = 0  # of the runs that have ended

    def course(self, budget: int) -> Course:
        """Runs until `budget` steps are spent, or nothing is left to try."""
        points: list[tuple[int, float]] = []
        events: list[tuple[int, int]] = []  # (clock, slot), the next of each run

        def fill(slot: int, now: int) -> None:
            if self._begin(slot, now):
                heapq.heappush(events, (now + self._next(slot), slot))

        for slot in range(self._num_slots):
            fill(slot, 0)
        while events:
            now, slot = heapq.heappop(events)
            run = self._out[slot]
            run.step = now - run.began
            spent = self._spent + sum(now - each.began for each in self._out.values())
            if spent > budget:
                break
            for each in run.training.candidates:
                if each.step == run.step and each.quality > self._best.get(each.params, -1.0):
                    self._best[each.params] = each.quality
                    points.append((spent, self._area(self._best)))
            stops = self._stops(run)
            if stops or run.step >= run.training.end:
                self._end(slot, stops)
                fill(slot, now)
            else:
                heapq.heappush(events, (run.began + self._next(slot), slot))
        return Course(tuple(points), len(self._asks), self._num_stopped)

    def _begin(self, slot: int, now: int) -> bool:
        if not self._waiting:
            self._ask()
        if not self._waiting:
            return False
        ask, place = self._waiting.popleft()
        self._out[slot] = _Out(str(ask.number), ask, place, self._laboratory.trainings[place], now)
        self._ask()
        return True

    def _ask(self) -> None:
        """The next suggestion, put to the nearest training on record that was not tried; nothing where all were."""
        if len(self._tried) == len(self._laboratory.trainings):
            return
        number = len(self._asks)
        values, part = self._study.propose(self._asks, self._told, num_concurrent=self._num_slots + 1)
        near = self._laboratory.nearest(self._laboratory.grid.place(values), self._tried)
        place = random.Random(ask_seed(self._seed, number)).choice(near)
        params, distributions = self._put(place)
        part |= {"params": params, "distributions": distributions}
        ask = Ask(number=number, key="-".join(map(str, place)), kind="search", **part)
        self._asks.append(ask)
        self._tried.add(place)
        self._waiting.append((ask, place))

    def _put(self, place: Place) -> tuple[dict[str, Any], dict[str, str]]:
        params = as_params(self._laboratory.grid.suggestion(place), self._space)
        return params, fixed(params, self._space)[1]

    def _next(self, slot: int) -> int:
        """The step of its next look or candidate, or its end."""
        run = self._out[slot]
        training, stopping = run.training, self._variant.stopping
        steps = {training.end, *(each.step for each in training.candidates)}
        if stopping is not None:
            steps |= {round(share * training.steps) for share in stopping.looks}
        return min(step for step in steps if step > run.step)

    def _stops(self, run: _Out) -> bool:
        training, stopping = run.training, self._variant.stopping
        self._runs[run.name] = self._laboratory.run(run.place, run.step, ended=run.step >= training.end)
        if stopping is None or run.step >= training.end:
            return False
        is_look = run.step in {round(share * training.steps) for share in stopping.looks}
        if not (is_look or stopping.at_candidates):
            return False
        return verdict(self._runs, run.name, run.step / training.steps, **stopping.settings).stops

    def _end(self, slot: int, stops: bool) -> None:
        run = self._out.pop(slot)
        self._spent += run.step
        self._num_stopped += stops
        self._told[run.ask.number] = self._laboratory.record(run.place, run.step, stopped=stops)
        if stops:
            self._runs[run.name] = self._laboratory.run(run.place, run.step, ended=True)
