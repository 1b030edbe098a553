"""Groups of trials to set side by side: whole stores, or the trials of one store by a setting."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.results.analysis.budget import recommend
from prunedlora.results.analysis.confirmation import confirming_keys
from prunedlora.results.analysis.constraints import Constraints
from prunedlora.results.analysis.pareto import Objectives, Point, front, points
from prunedlora.results.analysis.summary import margin_of_sweep
from prunedlora.results.record import BaseReference, TrialRecord
from prunedlora.results.recorded_settings import flat, varying
from prunedlora.results.store import Store

LABEL = "label"
MOST_GROUPS = 12
"""More cannot be told apart on one page."""
MOST_SHOWN = 60
"""Characters of a setting in a message."""


class ComparisonError(ValueError):
    """A comparison that cannot be made; the message says what could be."""


@dataclass(frozen=True)
class Group:
    """Trials that are looked at as one, with their own front."""

    name: str
    store: Store
    objectives: Objectives
    base: BaseReference | None
    records: list[TrialRecord]
    points: list[Point]
    """All candidates, smallest first; half-trained milestones only where nothing else is, trainings that confirm not:
    they are no candidates, as in the report."""
    trained: list[Point]
    """The same with those of the trainings that confirm, for what is told of settings."""
    confirming: frozenset[str]
    """Keys of the trainings that confirm."""
    num_half_trained: int
    """Milestones on the way that are left out, since they are no end of the method; 0 where nothing else is."""
    front: list[Point]
    """Smallest first."""
    recommended: Point | None
    """The one that the report names where the group is a whole sweep: a half-trained milestone too."""

    @property
    def num_failed(self) -> int:
        return sum(record.status == "failed" for record in self.records)

    @property
    def best(self) -> Point:
        """The point of the best quality; the smallest of equals."""
        return self.front[-1]

    def best_within(self, size: float) -> Point:
        """The best that is no larger than `size`. Raises ValueError when all are larger."""
        return max((point for point in self.front if point.size <= size), key=lambda point: point.size)

    def num_within(self, size: float) -> int:
        """Candidates no larger than `size`: what its best was picked from."""
        return sum(point.size <= size for point in self.points)

    def why_empty(self) -> str:
        """What is there instead of candidates."""
        if not self.records:
            return "no trial has finished"
        if self.num_failed == len(self.records):
            return f"all {len(self.records)} trials failed" if len(self.records) > 1 else "its only trial failed"
        if self.trained:
            return "its trainings only confirm others"
        return "its trials left no adapter that can stand on the axes"


def groups_of_stores(stores: Sequence[Store], names: Sequence[str] | None, within: float) -> list[Group]:
    """Every store as one group, named as said, or by its sweep (and its folder where two sweeps share a name).

    `within`: as for `recommend`. Raises ComparisonError for a store or name given twice, stores without candidates,
    and sweeps of different objectives, tasks or metrics, naming both; and what reading a store raises.
    """
    uris = [store.uri for store in stores]
    if twice := _twice(uris):
        raise ComparisonError(f"{twice} is given twice; a store differs from itself in nothing")
    sweeps = [store.read_sweep() for store in stores]
    chosen = _default_names(sweeps, uris) if names is None else _checked(names, len(stores))
    objectives = [Objectives.of_sweep(sweep) for sweep in sweeps]
    for name, its in zip(chosen, objectives, strict=True):
        if its != objectives[0]:
            raise ComparisonError(
                f"{chosen[0]} was swept for {_described(objectives[0])}, {name} for {_described(its)}: "
                "only sweeps of equal objectives can be compared"
            )
    groups = [
        _group(name, store, its, store.read_base(), store.records(), within)
        for name, store, its in zip(chosen, stores, objectives, strict=True)
    ]
    for group in groups:
        if not group.points:
            raise ComparisonError(f"{group.name} ({group.store.uri}) has nothing to compare: {group.why_empty()}")
    _check_tasks(groups)
    _check_metrics(groups)
    return groups


def margin_of(stores: Sequence[Store]) -> float:
    """The margin by which each of these sweeps recommends. Raises ComparisonError where they have different ones."""
    margins = {store.uri: margin_of_sweep(store.read_sweep()) for store in stores}
    if len(set(margins.values())) > 1:
        found = ", ".join(f"{margin:g} ({uri})" for uri, margin in margins.items())
        raise ComparisonError(f"the sweeps recommend by different margins, so give one by --within: {found}")
    return next(iter(margins.values()))


def groups_by(store: Store, field: str, within: float) -> tuple[list[Group], list[str]]:
    """The trials of a store by a setting (dotted path) or by label, and what was left out, each as `name: why`.

    Groups without a candidate are left out: trials that failed before their first, full fine-tuning. Raises
    ComparisonError when no trial has the setting, when fewer than two groups are left, or too many; and what reading a
    store raises.
    """
    sweep, base, records = store.read_sweep(), store.read_base(), store.records()
    objectives = Objectives.of_sweep(sweep)
    labels = _labels(store, records)
    values = [labels[record.key] if field == LABEL else flat(record.config).get(field) for record in records]
    others = f"settings that vary in {store.uri}: {', '.join([*varying(records), LABEL])}"
    if not any(value is not None for value in values):
        raise ComparisonError(f"no trial has {field!r}; {others}")
    parts: dict[str, list[TrialRecord]] = {}
    for _, name, record in sorted(
        ((_order(value), _value_name(field, value), record) for value, record in zip(values, records, strict=True)),
        key=lambda one: one[:2],
    ):
        parts.setdefault(name, []).append(record)
    groups = [_group(name, store, objectives, base, part, within) for name, part in parts.items()]
    full = [group for group in groups if group.points]
    left_out = [f"{group.name}: {group.why_empty()}" for group in groups if not group.points]
    if len(full) < 2:
        also = f" (left out: {'; '.join(left_out)})" if left_out else ""
        raise ComparisonError(f"by {field} there are not two groups with candidates{also}; {others}")
    if len(full) > MOST_GROUPS:
        raise ComparisonError(f"by {field} there are {len(full)} groups, at most {MOST_GROUPS} can be read; {others}")
    _check_tasks(full)
    _check_metrics(full)
    return full, left_out


def differing(groups: Sequence[Group]) -> dict[str, list[str]]:
    """What is one value in each group and not the same in all: setting or `package <name>` → the value of each group;
    an empty text where a group has it not."""
    facts = [[_facts(record) for record in group.records if record.candidates] for group in groups]
    found = {}
    for path in sorted({path for group in facts for record in group for path in record}):
        values = [{record.get(path, "") for record in group} for group in facts]
        if all(len(one) == 1 for one in values) and len(set().union(*values)) > 1:
            found[path] = [one.pop() for one in values]
    return found


def _group(
    name: str,
    store: Store,
    objectives: Objectives,
    base: BaseReference | None,
    records: list[TrialRecord],
    within: float,
) -> Group:
    every = points(records, objectives)
    trained = [point for point in every if not point.candidate.is_half_trained] or every
    trained.sort(key=lambda point: (point.size, point.key, point.step))
    confirming = confirming_keys(store.confirmations())
    found = [point for point in trained if point.key not in confirming]
    limits = Constraints.of_sweep(store.read_sweep())
    return Group(
        name=name,
        store=store,
        objectives=objectives,
        base=base,
        records=records,
        points=found,
        trained=trained,
        confirming=confirming,
        num_half_trained=len(every) - len(trained),
        front=front(found, objectives),
        recommended=recommend(
            limits.within([point for point in every if point.key not in confirming]), objectives, within
        ),
    )


def _labels(store: Store, records: Sequence[TrialRecord]) -> dict[str, str | None]:
    """By key: the trial's label; of one that confirms, that of the trial which it confirms, as it has none itself."""
    found = {record.key: record.label for record in records}
    settings = [setting for plan in store.confirmations() for setting in plan.settings]
    return found | {key: found.get(setting.key) for setting in settings for key in setting.fresh}


def _facts(record: TrialRecord) -> dict[str, str]:
    settings = {path: _text(value) for path, value in flat(record.config).items() if value is not None}
    return settings | {f"package {name}": version for name, version in record.environment.packages.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _value_name(field: str, value: Any) -> str:
    return f"without {field}" if value is None else _text(value)


def _order(value: Any) -> tuple[int, float]:
    """Numbers by value, then everything else by name, then what has none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value)
    return (1, 0.0) if value is not None else (2, 0.0)


def _default_names(sweeps: Sequence[Mapping[str, Any]], uris: Sequence[str]) -> list[str]:
    """Names of the sweeps; with the folder where they are not told apart, or the whole URI where that is not enough."""
    folders = [uri.rstrip("/").rsplit("/", 1)[-1] for uri in uris]
    plain = [str(sweep.get("name", folder)) for sweep, folder in zip(sweeps, folders, strict=True)]
    longer = [f"{name} ({folder})" for name, folder in zip(plain, folders, strict=True)]
    return next((names for names in (plain, longer) if not _twice(names)), list(uris))


def _checked(names: Sequence[str], number: int) -> list[str]:
    chosen = [name.strip() for name in names]
    if len(chosen) != number or not all(chosen):
        raise ComparisonError(f"{number} stores need {number} names, got {', '.join(map(repr, chosen))}")
    if twice := _twice(chosen):
        raise ComparisonError(f"the name {twice!r} is given twice")
    return chosen


def _twice(texts: Sequence[str]) -> str | None:
    return next((text for index, text in enumerate(texts) if text in texts[:index]), None)


def _described(objectives: Objectives) -> str:
    servers = f", served on {', '.join(objectives.serve_on)}" if objectives.serve_on else ""
    return " and ".join(f"{name} ({direction})" for name, direction in objectives.as_dict().items()) + servers


def _check_tasks(groups: Sequence[Group]) -> None:
    """A metric of one name is not one metric in two tasks: the loss of a class, the loss of a token."""
    tasks: dict[str, str] = {}
    for group in groups:
        for record in group.records:
            if (task := flat(record.config).get("data.task")) is not None:
                tasks.setdefault(str(task), group.name)
    if len(tasks) > 1:
        found = ", ".join(f"{task} ({name})" for task, name in tasks.items())
        raise ComparisonError(f"the trials are of different tasks, whose figures are not comparable: {found}")


def _check_metrics(groups: Sequence[Group]) -> None:
    """Functions of one's own may share a name, and so may figures of lm-evaluation-harness that were measured in
    different ways. Older records do not say; a loss is the same under any metric."""
    metrics: dict[str, tuple[str, dict[str, Any]]] = {}
    for group in groups:
        for record in group.records:
            metric = record.environment.data.get("metric")
            if isinstance(metric, dict) and group.objectives.quality != "loss":
                metrics.setdefault(_text(metric), (group.name, metric))
    if len(metrics) < 2:
        return
    (first, one), (second, other), *_ = metrics.values()
    paths = [path for path in sorted(one | other) if one.get(path) != other.get(path)]
    shown = ", ".join(f"{path} {_short(one.get(path))} and {_short(other.get(path))}" for path in paths)
    raise ComparisonError(
        f"{groups[0].objectives.quality} of {first} and of {second} are two measurements of one name, which are not "
        f"comparable: {shown}"
    )


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
