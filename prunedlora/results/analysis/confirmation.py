"""Confirmation: what trainings with fresh seeds tell of adapters that were chosen, from its plan and records alone.

The adapter that measured best of many was lucky too; a fresh training of its settings has no share in that luck. So a
mean holds fresh trainings only, decided is on the validation split, and what can be told is asked at planned looks,
which share the error: each is made with 1 − (1 − confidence) / (number of looks), for all adapters of a plan at once.

The fresh trainings are no candidates of the sweep's one answer: they are more draws of the same lottery, and the best
of more draws is luckier still. They stand beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.results.analysis.confidence import NUM_DRAWS
from prunedlora.results.analysis.example_errors import (
    example_errors,
    rare_cost,
    rare_costs_text,
    step_of_one,
    why_no_probability,
)
from prunedlora.results.analysis.looks import Statement, measured_only, state
from prunedlora.results.analysis.over_seeds import mean_and_error
from prunedlora.results.analysis.pareto import Objectives, Point, points
from prunedlora.results.analysis.tested import tested
from prunedlora.results.ask import ConfirmationPlan
from prunedlora.results.record import Figure, TrialRecord
from prunedlora.results.store import Store


@dataclass(frozen=True)
class FreshResult:
    """What fresh trainings gave of one adapter in question."""

    name: str
    """Of the adapter that was chosen, as `<key>@<candidate>`."""
    chosen: Figure
    """What that measured."""
    points: tuple[Point, ...]
    """Fresh, in the order of the seeds; without those that failed, or left no such candidate."""
    failures: tuple[TrialRecord, ...]
    """Fresh trainings that failed before they had it."""
    num_missing: int
    """Fresh trainings that ended well and did not measure it: a cut that was passed over, or judged by its loss."""
    num_planned: int
    """Trainings that what is told takes."""
    test: tuple[Figure, ...]
    """Of the fresh ones, on the test split."""
    statement: Statement | None
    """None for what the others are compared with."""

    @property
    def num_ended(self) -> int:
        return len(self.points) + len(self.failures) + self.num_missing

    @property
    def mean(self) -> float | None:
        """Of the fresh trainings that measured it; None while there is none."""
        return self._over_seeds[0] if self.points else None

    @property
    def stderr(self) -> float | None:
        """Standard error of the mean over seeds, on these examples; None for fewer than two."""
        return self._over_seeds[1]

    @property
    def _over_seeds(self) -> tuple[float, float | None]:
        return mean_and_error([point.quality.value for point in self.points])

    @property
    def test_mean(self) -> tuple[float, float | None] | None:
        """The same on the test split; None where none was measured there."""
        return mean_and_error([figure.value for figure in self.test]) if self.test else None


@dataclass(frozen=True)
class Confirmation:
    plan: ConfirmationPlan
    results: tuple[FreshResult, ...]
    caveats: tuple[str, ...]
    """Sentences on what was not compared example by example, and what is not reckoned with."""
    unproven: str
    """Why no probability is given, without a full stop; empty where one is."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is to be trained any more."""
        return all(result.num_ended >= result.num_planned for result in self.results)

    def result_of(self, name: str) -> FreshResult | None:
        return next((result for result in self.results if result.name == name), None)

    def wanted(self) -> list[str]:
        """Keys of the trainings that what is told takes as far as it is known now, seed by seed; ended ones too."""
        most: dict[str, int] = {}
        for result in self.results:
            key = result.name.partition("@")[0]
            most[key] = max(most.get(key, 0), result.num_planned)
        settings = [(setting.fresh, most[setting.key]) for setting in self.plan.settings]
        return [fresh[number] for number in range(len(self.plan.seeds)) for fresh, count in settings if number < count]


def confirming_keys(plans: Iterable[ConfirmationPlan]) -> frozenset[str]:
    """Keys of all trainings that plans make; they are no candidates for the one answer."""
    return frozenset(key for plan in plans for setting in plan.settings for key in setting.fresh)


def confirmation(
    store: Store, records: Iterable[TrialRecord], objectives: Objectives, plan: ConfirmationPlan, seed: int = 0
) -> Confirmation:
    """What is known of a plan by now. `records`: of all trials, or at least of those that it names. Reads outcomes by
    example and test figures. Raises RecordError for broken ones, ObjectiveError as `points`."""
    named = {setting.key: setting for setting in plan.settings}
    keys = confirming_keys([plan]) | named.keys()
    known = {record.key: record for record in records if record.key in keys}
    # What a server makes of fresh adapters says nothing of their quality.
    placed = {point.name: point for point in points(known.values(), objectives.with_servers(()))}
    names = plan.candidates
    fresh_keys = [named[name.partition("@")[0]].fresh for name in names]
    fresh: list[list[Point | None]] = []
    ended: list[list[TrialRecord]] = []
    for name, own in zip(names, fresh_keys, strict=True):
        count = next((number for number, key in enumerate(own) if key not in known), len(own))
        ended.append([known[key] for key in own[:count]])
        fresh.append([placed.get(f"{key}@{name.partition('@')[2]}") for key in own[:count]])
    statements, caveats, unproven = _statements(store, fresh, objectives, plan, seed)
    figures = tested(store, [point for own in fresh for point in own if point is not None])
    looks = [statement.num_seeds for statement in statements.values()]
    results = []
    for index, name in enumerate(names):
        absent = [record for record, point in zip(ended[index], fresh[index], strict=True) if point is None]
        failures = tuple(record for record in absent if record.status == "failed")
        statement = statements.get(index)
        if statement is not None and statement.verdict == "failed" and not failures:
            statement = Statement("not told", statement.num_seeds, statement.difference, -np.inf, np.inf)
        own_points = tuple(point for point in fresh[index] if point is not None)
        figure = known[name.partition("@")[0]].candidate(name.partition("@")[2]).figure(objectives.quality)
        results.append(
            FreshResult(
                name=name,
                chosen=figure,
                points=own_points,
                failures=failures,
                num_missing=len(absent) - len(failures),
                num_planned=max(looks, default=plan.looks[-1]) if statement is None else statement.num_seeds,
                test=tuple(figures[p.name][objectives.quality] for p in own_points if _has(figures, p, objectives)),
                statement=statement,
            )
        )
    return Confirmation(plan, tuple(results), caveats, unproven)


def _statements(
    store: Store, fresh: Sequence[Sequence[Point | None]], objectives: Objectives, plan: ConfirmationPlan, seed: int
) -> tuple[dict[int, Statement], tuple[str, ...], str]:
    """Number of an adapter in question → what is told of it, caveats, and why no probability is given."""
    if plan.against is None:
        return {}, (), ""
    best = plan.candidates.index(plan.against)
    rng = np.random.default_rng(seed)
    there = [(index, point) for index, own in enumerate(fresh) for point in own if point is not None]
    owner, trained = np.array([i for i, _ in there], int), [point for _, point in there]
    found = example_errors(store, trained, owner, objectives, rng, NUM_DRAWS)
    columns = {point.name: column for column, point in enumerate(trained)}
    gains = [np.array([np.nan if p is None else objectives.gain(p.quality.value) for p in own]) for own in fresh]
    errors = [
        np.stack([np.zeros(NUM_DRAWS) if p is None else found.draws[:, columns[p.name]] for p in own], axis=1)
        if own
        else np.zeros((NUM_DRAWS, 0))
        for own in fresh
    ]
    pairs = [(index, best) for index in range(len(fresh)) if index != best]
    if trained and (why_not := why_no_probability(trained, objectives.quality, found.outcomes)):
        told = measured_only(gains, pairs, plan.looks)
        return {index: one for (index, _), one in zip(pairs, told, strict=True)}, tuple(found.caveats()), why_not
    resolution = max(
        (step_of_one(p, o, objectives.quality) for p, o in zip(trained, found.outcomes, strict=True)), default=0.0
    )

    def rare(look: int) -> float:
        seen = [columns[p.name] for own in fresh for p in own[:look] if p is not None]
        outcomes = [found.outcomes[column] for column in seen]
        return rare_cost([trained[column] for column in seen], outcomes, owner[seen], objectives) if seen else 0.0

    told = state(
        gains,
        errors,
        pairs,
        plan.looks,
        plan.within,
        plan.confidence,
        rng,
        resolution=resolution,
        rare=[rare(look) for look in plan.looks],
    )
    unseen = rare_costs_text(trained, objectives.quality)
    caveats = (*found.caveats(), *filter(None, [unseen]))
    return {index: one for (index, _), one in zip(pairs, told, strict=True)}, caveats, ""


def _has(figures: dict[str, dict[str, Figure]], point: Point, objectives: Objectives) -> bool:
    return objectives.quality in figures.get(point.name, {})
