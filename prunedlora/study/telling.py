"""What the study is told of a run, which leaves several candidates: an own trial of each, or one figure for all.

- `last`: the last candidate that is as it was trained (rebuild.outcome). A stopped run is told as bad.
- `candidates`: each is a trial of its own with the run's parameters. One that was cut to a size that an entry of the
  space gives (pruning.target_rank, pruning.target_sparsity, adapter.initial_rank where nothing is pruned) has that size
  for its parameter. Of those with the same parameters only the run's own front is told: what the same training beat in
  every respect is nothing against its settings. That is what becomes of half-trained milestones as well, which are told
  where they are larger and better than what came after them; they keep the run's parameters, since a training that aims
  at their size would not have been half over.
- `area`: how good the run's candidates alone are over all sizes (`area`), the only objective of the study. It hangs on
  no other run, and needs no second objective; that sizes differ in worth is lost.

Of failed runs nothing is told but that they failed: their settings broke the training, or it was no fault of theirs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from prunedlora.config.sweep import Telling as Telling
from prunedlora.results.analysis.served_size import objective_on, served_sizes
from prunedlora.results.ask import Ask
from prunedlora.results.record import Candidate, ObjectiveError, TrialRecord
from prunedlora.servers.treatment import Refused
from prunedlora.sizes import SIZES
from prunedlora.study.rebuild import Direction, distribution_of, outcome

AREA = "area"
"""The objective of a study that is told areas."""
HEADROOM = 2.0
"""The area ends so many times above the largest size, which thereby has a width of its own."""


@dataclass(frozen=True)
class Said:
    """A completed trial as the study is told of it."""

    params: Mapping[str, Any]
    """As Optuna has them."""
    values: tuple[float, ...]
    beyond: Mapping[str, float]
    """Limited axis of size → log of how many times its limit the size is: at most 0 where it is kept."""


@dataclass(frozen=True)
class Told:
    """What becomes of a run in the study."""

    state: TrialState
    """Of the ask's own trial."""
    own: Said | None
    """Of a COMPLETE one."""
    others: tuple[Said, ...] = ()
    """Further trials."""


@dataclass(frozen=True)
class Teller:
    """Says what a record is told as."""

    objectives: Mapping[str, Direction]
    telling: Telling = "last"
    limits: Mapping[str, float] | None = None
    """Axis of size → the most that is of use."""
    sizes: tuple[float, float] | None = None
    """Least and most size that the space has, on the axis of the objectives; for `area`."""
    serve_on: Sequence[str] = ()
    """Servers as which sizes are (served_size.py)."""

    @property
    def directions(self) -> list[Direction]:
        """Of the study's objectives."""
        return ["maximize"] if self.telling == AREA else [*self.objectives.values()]

    def told(self, ask: Ask, record: TrialRecord) -> Told:
        """What the study is told of the run that this ask made."""
        state, values = outcome(record, self.objectives, self.serve_on)
        if self.telling == "last":
            if values is None:
                return Told(state, None)
            last = record.last_measured(self.objectives)
            assert last is not None
            return Told(state, Said(ask.params, tuple(values), self._beyond(record, last)))
        if record.status == "failed":
            return Told(state, None)
        measured = list(self.measured(record))
        if not measured:
            return Told(state, None)
        return self._area(ask, record, measured) if self.telling == AREA else self._candidates(ask, record, measured)

    def measured(self, record: TrialRecord) -> Iterable[tuple[Candidate, tuple[float, ...]]]:
        """The candidates that have a place on the axes (no served slot holds some, or a server refuses them; the loss
        of others told that they are not on the front), each with its objectives."""
        for candidate in record.candidates:
            try:
                yield candidate, tuple(objective_on(record, candidate, name, self.serve_on) for name in self.objectives)
            except ObjectiveError:
                continue

    def point(self, values: Sequence[float]) -> tuple[float, float]:
        """(size, gain) of objectives' values; the gain is in [0, 1], and more is better (`gain`)."""
        by_name = dict(zip(self.objectives, values, strict=True))
        size = by_name.pop(size_axis(self.objectives))
        ((name, quality),) = by_name.items()
        return size, gain(quality, self.objectives[name])

    def _candidates(
        self, ask: Ask, record: TrialRecord, measured: Sequence[tuple[Candidate, tuple[float, ...]]]
    ) -> Told:
        distributions = {name: distribution_of(text) for name, text in ask.distributions.items()}
        said = [
            Said(params_of(candidate, record, ask.params, distributions), values, self._beyond(record, candidate))
            for candidate, values in measured
        ]
        kept = [each for i, each in enumerate(said) if not any(self._beats(said, j, i) for j in range(len(said)))]
        own = next((each for each in reversed(kept) if each.params == ask.params), None)
        # Without one of the run's own parameters its settings are neither good nor bad: its cuts tell of theirs.
        state = TrialState.FAIL if own is None else TrialState.COMPLETE
        return Told(state, own, tuple(each for each in kept if each is not own))

    def _beats(self, said: Sequence[Said], one: int, other: int) -> bool:
        """Whether one is as good as the other in all respects and better in one, or equal and before it."""
        if said[one].params != said[other].params:
            return False
        a, b = self._costs(said[one]), self._costs(said[other])
        return all(x <= y for x, y in zip(a, b, strict=True)) and (a != b or one < other)

    def _costs(self, said: Said) -> list[float]:
        signs = (-1.0 if direction == "maximize" else 1.0 for direction in self.objectives.values())
        costs = [sign * value for sign, value in zip(signs, said.values, strict=True)]
        return [*costs, *(max(0.0, each) for each in said.beyond.values())]

    def _area(self, ask: Ask, record: TrialRecord, measured: Sequence[tuple[Candidate, tuple[float, ...]]]) -> Told:
        assert self.sizes is not None
        within = [values for each, values in measured if all(much <= 0 for much in self._beyond(record, each).values())]
        return Told(TrialState.COMPLETE, Said(ask.params, (area(map(self.point, within), self.sizes),), {}))

    def _beyond(self, record: TrialRecord, candidate: Candidate) -> dict[str, float]:
        return {
            axis: math.log(max(size_on(record, candidate, axis, self.serve_on), 1.0) / most)
            for axis, most in (self.limits or {}).items()
        }


def size_axis(objectives: Iterable[str]) -> str:
    """The objective that is a size."""
    (axis,) = set(objectives) & set(SIZES)
    return axis


def size_on(record: TrialRecord, candidate: Candidate, axis: str, serve_on: Sequence[str]) -> float:
    """Its size on an axis; for a served slot that is none, since it is larger than the largest, its largest rank, which
    no slot is below. Raises ObjectiveError for another figure that its record does not have."""
    sizes = served_sizes(record, candidate, serve_on)
    if axis == "served_slot" and not isinstance(sizes, Refused) and sizes[axis] == math.inf:
        return sizes["max_rank"]
    return objective_on(record, candidate, axis, serve_on)


def params_of(
    candidate: Candidate,
    record: TrialRecord,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
) -> dict[str, Any]:
    """The parameters that a candidate stands for: those of its run, but for the size that it was cut to."""
    sized = _cut_to(candidate, record, params)
    if sized is None or not _holds(distributions[sized[0]], sized[1]):
        return dict(params)
    return {**params, sized[0]: sized[1]}


def gain(quality: float, direction: Direction) -> float:
    """A quality as a share of what can be, in [0, 1]: a score as it is, of a loss exp(−loss), the probability of a
    target in the geometric mean. Scores below 0 (a correlation) are 0."""
    return max(0.0, quality) if direction == "maximize" else math.exp(-quality)


def area(points: Iterable[tuple[float, float]], sizes: tuple[float, float]) -> float:
    """The best gain with no more than a size, in the mean over the logarithm of sizes from the least to HEADROOM times
    the most: the hypervolume of the points (size, gain) alone, as a share of all there could be."""
    low, high = math.log(max(1.0, sizes[0])), math.log(HEADROOM * max(1.0, sizes[1]))
    best, total, reached = 0.0, 0.0, low
    for size, gained in sorted(points):
        place = min(max(math.log(max(1.0, size)), low), high)
        total += best * (place - reached)
        best, reached = max(best, gained), place
    return (total + best * (high - reached)) / (high - low)


def _cut_to(candidate: Candidate, record: TrialRecord, params: Mapping[str, Any]) -> tuple[str, float] | None:
    """The parameter that gives the size which a candidate was cut to, and that size."""
    if candidate.cut is None:
        return None
    unit, size = candidate.cut.unit, candidate.cut.size
    if unit == "kept" and "pruning.target_sparsity" in params:
        return "pruning.target_sparsity", 1.0 - size
    if unit != "mean_rank" or not size.is_integer():
        return None
    if "pruning.target_rank" in params:
        return "pruning.target_rank", int(size)
    if "adapter.initial_rank" in params and record.config.get("pruning") is None:
        return "adapter.initial_rank", int(size)
    return None


def _holds(distribution: BaseDistribution, value: float) -> bool:
    """Whether the space has this value of a parameter."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return distribution._contains(distribution.to_internal_repr(value))
