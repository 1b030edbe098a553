"""Configurations: trials that differ in their seed alone. What they have in common are settings, which are judged over
all of their trainings; an adapter is one of these, and stands for itself."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prunedlora.results.analysis.example_errors import data_of
from prunedlora.results.analysis.over_seeds import mean_and_error
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.record import TrialRecord


@dataclass(frozen=True)
class Configuration:
    """The candidates that one configuration left at one step (and by one cut), one per seed. Rungs and cuts are at the
    same steps with every seed; their sizes may differ where layers share a budget, by less than one component."""

    points: tuple[Point, ...]
    """All that were measured, by key, whether their adapter file is there or not: a mean over those whose file was kept
    would be that of the luckiest."""
    missing: tuple[TrialRecord, ...] = field(repr=False)
    """Trials of the same configuration that failed or ended before this step, or passed over this cut: not in the
    mean."""

    @property
    def num_trainings(self) -> int:
        return len(self.points) + len(self.missing)

    @property
    def num_failed(self) -> int:
        """Trainings that failed through these settings, as far as is known, whether they got this far or not: no fault
        of a node, of storage, or of the user's own code."""
        records = (*(point.record for point in self.points), *self.missing)
        failures = [record.failure for record in records if record.failure is not None]
        return sum(failure.fault in (None, "trial") for failure in failures)

    @property
    def over_seeds(self) -> tuple[float, float | None]:
        """Mean of the quality over all of them, and its standard error over the seeds, on these examples."""
        return mean_and_error([point.quality.value for point in self.points])


def identity(record: TrialRecord) -> str:
    """Equal for trials that differ in nothing but their seed. A record that states no seed stands for itself."""
    if "seed" not in record.config:
        return record.key
    return json.dumps({name: value for name, value in record.config.items() if name != "seed"}, sort_keys=True)


def settings_of(point: Point, points: Sequence[Point], records: Sequence[TrialRecord]) -> Configuration:
    """The configuration that one of the points is of; arguments as for `configurations`."""
    same = identity(point.record)
    alike = [record for record in records if identity(record) == same]
    keys = {record.key for record in alike}
    found = configurations([one for one in points if one.key in keys], alike)
    return next(one for one in found if any(member.name == point.name for member in one.points))


def configurations(points: Iterable[Point], records: Sequence[TrialRecord]) -> list[Configuration]:
    """The points by configuration, in the order of their first one. `records`: all trials, for those that are missing.

    Trials on other data are other configurations.
    """
    groups: dict[tuple[str, str, str | None], list[Point]] = {}
    known: dict[int, tuple[str, str | None]] = {}  # by object: a record has many points, and JSON is slow
    for point in points:
        if id(point.record) not in known:
            known[id(point.record)] = identity(point.record), data_of(point)
        same, data = known[id(point.record)]
        groups.setdefault((same, point.candidate.name, data), []).append(point)
    trials: dict[str, list[TrialRecord]] = {}
    for record in records:
        trials.setdefault(identity(record), []).append(record)
    return [
        Configuration(
            points=tuple(sorted(members, key=lambda p: p.key)),
            missing=tuple(record for record in trials[same] if all(c.name != name for c in record.candidates)),
        )
        for (same, name, _), members in groups.items()
    ]
