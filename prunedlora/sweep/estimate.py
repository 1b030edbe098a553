"""What a sweep takes: how much its trainings have to do, and with measured speeds how long that is. Pure arithmetic."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunedlora.config.sweep import ResourcesConfig, SweepConfig
from prunedlora.results.analysis.plan_document import MeasuredSpeed, PlanDocument, planned_fields
from prunedlora.sweep.every_trial import BASE
from prunedlora.sweep.training_amount import TrainingAmount


@dataclass(frozen=True)
class Group:
    """Trainings of which nobody knows yet which of these amounts each has."""

    name: str
    """"" for the search's, otherwise a baseline's label or method."""
    number: int
    amounts: tuple[TrainingAmount, ...]

    def mean(self, of: Callable[[TrainingAmount], float]) -> float:
        """Of a training."""
        return sum(map(of, self.amounts)) / len(self.amounts)


def groups_of(
    config: SweepConfig, amounts: Mapping[str, Sequence[TrainingAmount]], num_configurations: int | None = None
) -> list[Group]:
    """The trainings of a whole sweep, baselines first. `amounts`: findings.Findings.amounts; `num_configurations`: of
    the space, None: more than can be tried."""
    names = [
        label or trial.method for label, trial in zip(config.baseline_labels(), config.baseline_trials(), strict=True)
    ]
    groups = [Group(name, names.count(name), tuple(amounts[name])) for name in dict.fromkeys(names)]
    num_asked = config.num_trials if num_configurations is None else min(config.num_trials, num_configurations)
    return [*groups, Group(BASE, num_asked, tuple(amounts[BASE]))] if num_asked else groups


def total(groups: Iterable[Group], of: Callable[[TrainingAmount], float]) -> float:
    """Over all trainings, the mean standing for each that is not known yet."""
    return sum(group.number * group.mean(of) for group in groups)


def train_seconds(amount: TrainingAmount, speeds: Mapping[str, MeasuredSpeed]) -> float:
    """Of a slot, by the positions that pass through the model."""
    return amount.positions * speeds[amount.kind].position_seconds


def evaluation_seconds(amount: TrainingAmount, speeds: Mapping[str, MeasuredSpeed]) -> float:
    """Of a slot, at most: losses, answers, exports, and what the metric of whitened cuts takes. Making cuts, and
    documents of harness tasks, are not in it."""
    speed, cost = speeds[amount.kind], amount.cost
    answers = amount.num_answers * (speed.answer_seconds or 0.0)
    a_trained = train_seconds(amount, speeds) / cost.examples_trained if cost.examples_trained else 0.0
    return (
        amount.examples_evaluated * speed.example_seconds
        + answers
        + amount.num_candidates * speed.export_seconds
        + cost.calibrating * a_trained
    )


def makespan(seconds: Iterable[float], num_slots: int) -> float:
    """When the last ends, where each in turn goes to the slot that is free first."""
    free = [0.0] * num_slots
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def devices_per_slot(resources: ResourcesConfig) -> float:
    """GPUs that a slot holds, or what part of one; on CPUs its workers."""
    return resources.num_workers * (resources.gpus_per_worker or 1.0)


def planned(
    config: SweepConfig, groups: Sequence[Group], speeds: Mapping[str, MeasuredSpeed], num_slots: int, startup: float
) -> PlanDocument:
    """The plan of a whole sweep. `speeds`: by kind, of all of its trainings; `startup`: seconds until a slot takes its
    first work."""

    def both(amount: TrainingAmount) -> float:
        return train_seconds(amount, speeds) + evaluation_seconds(amount, speeds)

    in_order = [seconds for group in groups for seconds in [group.mean(both)] * group.number]
    loading = max((speed.loading_seconds for speed in speeds.values()), default=0.0)
    return PlanDocument(
        sweep=planned_fields(config.model_dump(mode="json")),
        num_trainings=len(in_order),
        num_candidates=sum(group.number * max(each.num_candidates for each in group.amounts) for group in groups),
        num_steps=total(groups, lambda amount: amount.num_steps),
        tokens=total(groups, lambda amount: amount.tokens),
        positions=total(groups, lambda amount: amount.positions),
        num_slots=num_slots,
        devices_per_slot=devices_per_slot(config.resources),
        train_seconds=total(groups, lambda amount: train_seconds(amount, speeds)),
        evaluation_seconds=total(groups, lambda amount: evaluation_seconds(amount, speeds)),
        least_seconds=min((both(amount) for group in groups for amount in group.amounts), default=0.0),
        most_seconds=sum(group.number * max(map(both, group.amounts)) for group in groups),
        wall_seconds=startup + loading + makespan(in_order, num_slots),
        speeds=tuple(speeds.values()),
    )
