"""How the hypervolume grew: trial by trial, and over the time that devices spent training."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunedlora.results.analysis.pareto import Point, front, hypervolume
from prunedlora.results.analysis.summary import Summary


@dataclass(frozen=True)
class Stage:
    """The sweep after one more trial."""

    num_trials: int
    device_seconds: float
    """Seconds of training so far, over all devices."""
    hypervolume: float


def hypervolume_history(summary: Summary) -> list[Stage]:
    """One stage per trial on record, in the order in which they were asked for; failed ones add what they left
    before. Trainings that confirm others are none of them: they cannot make the front grow.

    Measured from the sweep's final reference point, so that the last stage is the summary's hypervolume.
    """
    number = {ask.key: ask.number for ask in reversed(summary.asks)}
    points: dict[str, list[Point]] = {}
    for point in summary.points:
        points.setdefault(point.key, []).append(point)
    best: Sequence[Point] = []
    stages: list[Stage] = []
    seconds, volume = 0.0, 0.0
    for record in sorted(summary.chosen_from, key=lambda record: (number.get(record.key, len(number)), record.key)):
        environment = record.environment
        seconds += record.train_seconds * environment.num_workers
        if fresh := points.get(record.key):
            grown = front([*best, *fresh], summary.objectives)
            if [point.name for point in grown] != [point.name for point in best]:
                best = grown
                volume = hypervolume(best, summary.objectives, summary.reference)
        stages.append(Stage(len(stages) + 1, seconds, volume))
    return stages
