"""Device hours: what slots have been busy for, over all runs of a sweep, and the limit that a sweep may set to them."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.analysis.plan_document import changed_fields, read_plan
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.sweep.estimate import devices_per_slot
from prunedlora.sweep.training_amount import TrainingAmount
from prunedlora.trial.resume import reached


class DeviceHoursError(ValueError):
    """A limit that no training fits into; the message says what one takes."""


def spent_before(store: Store, records: Iterable[TrialRecord], config: SweepConfig) -> float:
    """Device seconds of earlier runs: of `records`, the trainings that have ended, those that confirm others among
    them, and of all others that have left a checkpoint. What a killed process did after its last one is on no
    record."""
    ended = {record.key: record for record in records}
    seconds = sum(_seconds(record) for record in ended.values())
    for key in store.trial_keys():
        if key not in ended:
            found = reached(store, key)
            seconds += found.train_seconds + found.evaluation_seconds
    return seconds * devices_per_slot(config.resources)


class Meter:
    """Counts what slots are busy for; `see` it as often as is handy."""

    def __init__(self, limit_hours: float, before: float, devices: float, clock: Callable[[], float] = time.monotonic):
        """`before`: device seconds of earlier runs; `devices`: of a slot; `clock`: seconds."""
        self._limit = limit_hours * 3600
        self._devices = devices
        self._clock = clock
        self._seen = clock()
        self.device_seconds = before
        """So far, over all runs."""

    def see(self, snapshot: Mapping[str, Any]) -> None:
        """`snapshot`: the board's; a slot with work in hand is taken to have had it since the last look."""
        now = self._clock()
        busy = sum(slot["work"] is not None for slot in snapshot["slots"].values())
        self.device_seconds += busy * (now - self._seen) * self._devices
        self._seen = now

    @property
    def is_spent(self) -> bool:
        """Whether the limit is reached."""
        return self.device_seconds >= self._limit

    @property
    def seconds_left(self) -> float:
        """Of one slot that is busy from now on."""
        return max(0.0, self._limit - self.device_seconds) / self._devices


def meter_of(config: SweepConfig, store: Store, asker: Asker) -> Meter | None:
    """For a run that begins; None where the sweep sets no limit."""
    if config.max_device_hours is None:
        return None
    before = spent_before(store, asker.records, config)
    return Meter(config.max_device_hours, before, devices_per_slot(config.resources))


def check_device_hours(
    config: SweepConfig, store: Store, asker: Asker, amounts: Mapping[str, Sequence[TrainingAmount]]
) -> None:
    """Raises DeviceHoursError where the limit is less than the shortest training takes: by the plan on record, if it is
    of this sweep; otherwise by the steps and the fastest step of trainings on record. Where neither is known, nothing
    is said. A limit that earlier runs have reached is no error: nothing is trained."""
    limit = config.max_device_hours
    if limit is None or asker.num_left == 0:
        return
    least, by = _least(config, store, asker, amounts)
    if limit * 3600 < least:
        enough = math.ceil(least / 3600 * 1000) / 1000
        raise DeviceHoursError(
            f"max_device_hours {limit:g} is less than one training takes: about {least / 3600:.3g} device hours {by}; "
            f"set at least {enough:g}"
        )


def device_hours_lines(
    config: SweepConfig, store: Store, asker: Asker, amounts: Mapping[str, Sequence[TrainingAmount]]
) -> list[str]:
    """What the limit is held against where no plan of this sweep is on record; nothing where there is no limit."""
    if config.max_device_hours is None:
        return []
    least, by = _least(config, store, asker, amounts)
    told = f"one training takes at least {least / 3600:.3g} {by}"
    if least == 0.0:
        told = "cannot be checked before a step was measured: run prunedlora plan"
    return [f"max_device_hours {config.max_device_hours:g}: {told}"]


def _least(
    config: SweepConfig, store: Store, asker: Asker, amounts: Mapping[str, Sequence[TrainingAmount]]
) -> tuple[float, str]:
    """Device seconds of the shortest training, 0 where nothing tells them; and what tells them."""
    plan = read_plan(store)
    if plan is not None and not changed_fields(plan, config.model_dump(mode="json")):
        return plan.least_seconds * plan.devices_per_slot, "by the plan on record"
    seconds = _least_by_records(asker.records, amounts)
    return seconds * devices_per_slot(config.resources), "by the fastest step on record"


def _least_by_records(records: Iterable[TrialRecord], amounts: Mapping[str, Sequence[TrainingAmount]]) -> float:
    """Seconds of a slot for the fewest steps that are asked for; 0 where no step was timed."""
    steps = [each.num_steps for some in amounts.values() for each in some]
    speeds = [
        record.train_seconds / last.step
        for record in records
        if record.train_seconds and (last := record.last_trained) is not None and last.step
    ]
    return min(steps) * min(speeds) if steps and speeds else 0.0


def _seconds(record: TrialRecord) -> float:
    return record.train_seconds + (record.evaluation_seconds or 0.0)
