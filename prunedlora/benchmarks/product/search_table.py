"""A recorded grid as a search sees it: what a training at a place of the grid comes to, as records and as runs.

The same for what search_recorder.py has trained and for what search_toy.py makes up.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunedlora.benchmarks.product.search_grid import Grid, Place
from prunedlora.benchmarks.product.search_plans import NUMBER_BYTES, plans
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PlannedSize
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.record import Candidate, Environment, Failure, Figure, TrialRecord
from prunedlora.servers.served_slot import served_slot
from prunedlora.study.stopping_looks import Run

OUTCOMES_AT = 0.1
"""The look of which a table has the loss of each example."""


@dataclass(frozen=True)
class Measured:
    """A candidate on record."""

    step: int
    params: int
    max_rank: int
    loss: float
    loss_error: float
    quality: float
    quality_error: float


@dataclass(frozen=True)
class Training:
    """What one training came to."""

    steps: int
    looks: Mapping[int, tuple[float, float]]
    """Step → loss and its standard error, on the first validation examples."""
    outcomes: Sequence[float]
    """Loss of each of them at OUTCOMES_AT."""
    removals: Sequence[int]
    candidates: Sequence[Measured]
    failed: int | None
    """Step after which its loss was not finite."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Training":
        """From a table's row (search_recorder.trained)."""
        return cls(
            steps=row["steps"],
            looks={step: (loss, error) for step, loss, error in row["looks"]},
            outcomes=[each / 1000 for each in row["outcomes"]],
            removals=row["removals"],
            candidates=[Measured(*candidate) for candidate in row["candidates"]],
            failed=row["failed"],
        )

    @property
    def end(self) -> int:
        """Steps that it takes."""
        return self.steps if self.failed is None else self.failed

    def run(self, plan: Sequence[PlannedSize], step: int, *, ended: bool) -> Run:
        """As the stopping rule sees it once `step` steps are done; `ended`: nothing comes after them. `plan`: its sizes
        are those that a live sweep compares, by adapter_params."""
        figures = {at: figure for at, figure in self.looks.items() if at <= step}
        figures |= {each.step: (each.loss, each.loss_error) for each in self.candidates if each.step <= step}
        run: Run = {
            "sizes": [size for each in plan if (size := each.size("adapter_params")) is not None],
            "at": [each.share for each in plan],
            "figures": {at / self.steps: loss for at, (loss, _) in figures.items()},
            "errors": {at / self.steps: error for at, (_, error) in figures.items()},
            "removals": [each / self.steps for each in self.removals],
        }
        at = round(OUTCOMES_AT * self.steps)
        if self.outcomes and at <= step and at not in {each.step for each in self.candidates}:
            run["outcomes"] = {at / self.steps: self.outcomes}
        if ended:
            run["ended"] = step / self.steps
        return run


@dataclass(frozen=True)
class Laboratory:
    """A grid of which trainings are on record: all, or an even sample of it."""

    grid: Grid
    objectives: Mapping[str, Any]
    """As a sweep has them."""
    trainings: Mapping[Place, Training]

    @classmethod
    def of(cls, config: SweepConfig, table: Mapping[str, Any]) -> "Laboratory":
        """Raises ValueError for a table of another grid, or without a row."""
        grid = Grid.of(config)
        if table["grid"] != grid.values:
            raise ValueError(f"the table of {config.name} is of another grid than its file: record it again")
        if not table["rows"]:
            raise ValueError(f"the table of {config.name} has no rows: record them")
        trainings = {tuple(row["at"]): Training.of(row) for row in table["rows"]}
        return cls(grid, config.objectives, trainings)

    @cached_property
    def quality(self) -> str:
        """Name of the quality figure."""
        return Objectives.parse(self.objectives).quality

    def nearest(self, place: Place, tried: Collection[Place] = ()) -> list[Place]:
        """The trainings on record, those that were tried left out, that are nearest to a place; none where all were."""
        away = {
            each: sum(abs(x - y) for x, y in zip(each, place, strict=True))
            for each in self.trainings
            if each not in tried
        }
        return [each for each, distance in away.items() if distance == min(away.values())]

    @property
    def axis(self) -> tuple[int, int]:
        """Smallest and largest adapter of all."""
        sizes = [each.params for training in self.trainings.values() for each in training.candidates]
        return min(sizes), max(sizes)

    @cached_property
    def plans(self) -> dict[Place, tuple[PlannedSize, ...]]:
        """What each training was planned to leave. Raises ValueError for a table that does not tell."""
        return plans(
            {place: self.grid.trial(place) for place in self.trainings},
            {
                place: [(each.step, each.params, each.max_rank) for each in training.candidates]
                for place, training in self.trainings.items()
            },
            {place: training.steps for place, training in self.trainings.items()},
        )

    def run(self, place: Place, step: int, *, ended: bool) -> Run:
        """The training at a place as the stopping rule sees it."""
        return self.trainings[place].run(self.plans[place], step, ended=ended)

    def planner(self, trial: TrialConfig) -> Sequence[PlannedSize]:
        """What the nearest training on record was planned to leave (a Planner)."""
        values = trial.model_dump()
        given = {path: value for path in self.grid.values if (value := _at(values, path)) is not None}
        return self.plans[self.nearest(self.grid.place(given))[0]]

    def record(self, place: Place, step: int, *, stopped: bool) -> TrialRecord:
        """What a trial at the place leaves when it ends after `step` steps; `stopped`: by the rule."""
        training = self.trainings[place]
        failure = None
        if not stopped and training.failed is not None:
            message = f"loss is nan at step {training.failed}"
            failure = Failure(type="NonFiniteError", message=message, fault="trial", traceback="")
        return TrialRecord(
            key="-".join(map(str, place)),
            config=self.grid.trial(place).model_dump(mode="json"),
            status="stopped" if stopped else "completed" if failure is None else "failed",
            failure=failure,
            attempts=1,
            candidates=tuple(self._candidate(training, each) for each in training.candidates if each.step <= step),
            environment=Environment(packages={}, device="cpu", num_workers=1, model={}, data={}),
            train_seconds=0.0,
        )

    def _candidate(self, training: Training, each: Measured) -> Candidate:
        return Candidate(
            step=each.step,
            progress=each.step / training.steps,
            rung=training.candidates.index(each) if len(training.candidates) > 1 else None,
            figures={
                self.quality: Figure(value=each.quality, stderr=each.quality_error, num_examples=2),
                "loss": Figure(value=each.loss, stderr=each.loss_error, num_examples=2),
            },
            ranks={},
            adapter_params=each.params,
            adapter_bytes=NUMBER_BYTES * each.params,
            head_params=0,
            file_bytes=0,
            max_rank=each.max_rank,
            served_slot=served_slot(each.max_rank),
            train_seconds=0.0,
            tokens_seen=0,
            examples_seen=0,
        )


def read_table(path: Path) -> dict[str, Any]:
    """{kind: {"grid", "rows"}} of a file. Raises ValueError, naming it, for what is no table."""
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no table of a search: {error}; make one with record-search") from error
    return table


def _at(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
