"""plan.json: what a sweep was planned to take, before anything of it was trained, and how far that was from the truth.

`prunedlora plan` writes it into the sweep's storage, which is no store by that; the sweep that begins there later finds
it, and its report sets both beside each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from prunedlora.results.record import SCHEMA_VERSION, Count, Document, Json, TrialRecord
from prunedlora.results.store import PLAN_FILE, Store
from prunedlora.results.sweep_binding import FIXED_FIELDS, plain

PLANNED_FIELDS = (*FIXED_FIELDS, "num_trials", "baselines", "resources")
"""Fields of a sweep that decide what it takes."""


class MeasuredSpeed(Document):
    """How fast one kind of training goes in a slot with the sweep's resources; seconds are of the slot, which all its
    workers share."""

    kind: str
    """Method and model (sweep/training_amount.py)."""
    device: str
    loading_seconds: float = Field(ge=0.0)
    """Base model and data, and the adapter's attachment."""
    num_steps: int = Field(ge=1)
    """Optimizer steps that were measured, after those that warm up."""
    step_seconds: float = Field(gt=0.0)
    """Median."""
    position_seconds: float = Field(gt=0.0)
    """A token's, padding counted as such, forward and backward: all seconds over all positions."""
    example_seconds: float = Field(ge=0.0)
    """A validation example's, for its loss."""
    answer_seconds: float | None = Field(default=None, ge=0.0)
    """A validation example's whose answer is generated, by an adapter that has hardly learned where to stop; None: none
    are."""
    export_seconds: float = Field(ge=0.0)
    """Writing and verifying one adapter; 0 where none is written."""
    peak_bytes: Count
    """Memory that a worker took at most: of its GPU, what torch reserved; on a CPU the process's resident set."""


class PlanDocument(Document):
    """What a sweep takes if no training fails, is stopped, or repeats another."""

    schema_version: Literal[2] = SCHEMA_VERSION
    sweep: dict[str, Json]
    """Fields of the sweep (PLANNED_FIELDS) that this is of."""
    num_trainings: Count
    num_candidates: Count
    """At most, cuts among them."""
    num_steps: float = Field(ge=0.0)
    """Optimizer steps of all trainings; a mean over what the search may ask for, as all of these."""
    tokens: float = Field(ge=0.0)
    """Of training, padding not counted."""
    positions: float = Field(ge=0.0)
    """The same, padding counted."""
    num_slots: int = Field(ge=1)
    devices_per_slot: float = Field(gt=0.0)
    """Its GPUs, or parts of one; on CPUs its workers."""
    train_seconds: float = Field(ge=0.0)
    """Of slots, over all trainings."""
    evaluation_seconds: float = Field(ge=0.0)
    """The same of measuring candidates, at most."""
    least_seconds: float = Field(ge=0.0)
    """Both together of the shortest training."""
    most_seconds: float = Field(ge=0.0)
    """Of all trainings together, had the search only the longest to ask for."""
    wall_seconds: float = Field(ge=0.0)
    """Until the last slot has ended, its start and loading included."""
    speeds: tuple[MeasuredSpeed, ...]

    @property
    def device_seconds(self) -> float:
        """Of training and measuring, over all devices."""
        return (self.train_seconds + self.evaluation_seconds) * self.devices_per_slot

    @property
    def held_seconds(self) -> float:
        """That devices are held by slots, idle or not."""
        return self.wall_seconds * self.num_slots * self.devices_per_slot


def planned_fields(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Of a whole sweep as JSON data those that decide what it takes."""
    return {field: plain(sweep.get(field)) for field in PLANNED_FIELDS}


def read_plan(store: Store) -> PlanDocument | None:
    """None where none was made. Raises RecordError for a broken one."""
    return store.read_document(PlanDocument, PLAN_FILE)


def changed_fields(plan: PlanDocument, sweep: Mapping[str, Any]) -> list[str]:
    """Names of the fields that a sweep has otherwise than its plan."""
    now = planned_fields(sweep)
    return [field for field in PLANNED_FIELDS if plan.sweep.get(field) != now[field]]


@dataclass(frozen=True)
class PlanRow:
    """One figure, planned and real."""

    name: str
    planned: float
    real: float

    @property
    def ratio(self) -> float | None:
        """Real over planned; None where nothing was planned."""
        return self.real / self.planned if self.planned else None


def plan_rows(plan: PlanDocument, records: Sequence[TrialRecord]) -> list[PlanRow]:
    """The plan beside what the sweep's trainings took, `records` without those of trainings that confirm others. What
    trainings took that are not on record yet is no part of it."""
    devices = plan.devices_per_slot
    train = sum(record.train_seconds for record in records) * devices
    evaluation = sum(record.evaluation_seconds or 0.0 for record in records) * devices
    num = len(records)
    rows = [
        PlanRow("trainings", plan.num_trainings, num),
        PlanRow("candidates", plan.num_candidates, sum(len(record.candidates) for record in records)),
        PlanRow("steps", plan.num_steps, sum(map(_steps, records))),
        PlanRow("tokens", plan.tokens, sum(map(_tokens, records))),
        PlanRow("device seconds of training", plan.train_seconds * devices, train),
        PlanRow("device seconds of measuring", plan.evaluation_seconds * devices, evaluation),
        PlanRow("device seconds", plan.device_seconds, train + evaluation),
    ]
    if num and plan.num_trainings:
        rows.append(PlanRow("device seconds a training", plan.device_seconds / plan.num_trainings,
                            (train + evaluation) / num))  # fmt: skip
    return rows


def _steps(record: TrialRecord) -> int:
    """Optimizer steps that were done, as far as the record tells."""
    failed = record.failure.step if record.failure is not None else None
    return max([failed or 0, *(candidate.step for candidate in record.candidates)])


def _tokens(record: TrialRecord) -> int:
    """Until the last candidate."""
    return max((candidate.tokens_seen for candidate in record.candidates), default=0)
