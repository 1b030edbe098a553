"""SweepConfig: one sweep file. What is fixed (`trial`), what varies (`space`), what for, on what, how long."""

import difflib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from prunedlora.config.fields import all_fields, is_field, takes_whole_numbers_only, with_values
from prunedlora.config.section import Section
from prunedlora.config.space import IntRange, LogInt, LogUniform, SpaceEntry, Uniform, Value
from prunedlora.config.trial import TrialConfig
from prunedlora.sizes import SIZES

SamplerName = Literal["gp", "nsga2", "random", "tpe"]
"""Those of study/samplers.py, listed here because checking a sweep must not import Optuna."""
Numeric = Uniform | LogUniform | IntRange | LogInt
MOST_CORNERS = 4096
MOST_INNER = 2048
MOST_PROBLEMS = 10
SMALLEST_PART = 0.01
"""Of a GPU."""
LABEL = "label"
"""Key of a baseline's name among the fields that it replaces."""


class ResourcesConfig(Section):
    """What one slot holds for the whole sweep."""

    num_workers: PositiveInt = 1
    """Ray Train workers of a slot; each gets a shard of every batch."""
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat = 0
    """0, 1, or a part of one GPU, 0.25 for four slots on each: small models leave most of a GPU idle."""
    num_slots: PositiveInt | None = None
    """Slots to run at once; None: as many as the cluster's resources allow."""

    @model_validator(mode="after")
    def _gpus_can_be_shared(self) -> Self:
        gpus = self.gpus_per_worker
        if gpus > 1:
            raise ValueError(
                f"gpus_per_worker must be 0, 1 or a part of one GPU, got {gpus:g}: a worker trains on one GPU; "
                "for more of them raise num_workers, which share every batch"
            )
        if 0 < gpus < SMALLEST_PART:
            raise ValueError(f"gpus_per_worker must be 0 or at least {SMALLEST_PART:g}, got {gpus:g}")
        if 0 < gpus < 1 and self.num_workers > 1:
            raise ValueError(
                f"gpus_per_worker {gpus:g} with num_workers {self.num_workers}: NCCL refuses two workers of a slot "
                "on one GPU; share GPUs between slots of one worker, or give every worker a GPU"
            )
        return self


class RetentionConfig(Section):
    checkpoints: Literal["until_completed", "always"] = "until_completed"
    """Whether a completed trial's checkpoints are deleted."""
    checkpoint_every_steps: PositiveInt | None = None
    """Optimizer steps between checkpoints to resume from; None: at milestones, and when the sweep is paused."""
    adapters: Literal["all", "front"] = "all"
    """front: after the sweep, adapters of dominated candidates are deleted (their figures stay)."""


class SweepConfig(Section):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    storage: str = Field(min_length=1)
    """Folder of the records and adapters: a local or shared path, or s3://…, gs://…"""
    objectives: dict[str, Literal["maximize", "minimize"]]
    """One quality figure of the metric (accuracy: maximize, or loss: minimize) and one size (minimize)."""
    sampler: SamplerName = "tpe"
    num_trials: NonNegativeInt
    """Suggestions to try, besides the baselines; 0 (with an empty space) runs the baselines alone."""
    max_seconds: PositiveFloat | None = None
    """End cleanly after this time: trials in flight keep a checkpoint and go on in the next run."""
    max_attempts: PositiveInt = 3
    """How often a trial is started, per run of the sweep, whose worker died or met trouble that is not the trial's own
    (another worker lost, Ray, the storage); it goes on from its last checkpoint."""
    recommend_within: float = Field(default=0.01, ge=0.0)
    """The recommended adapter is the smallest whose quality is at most this much worse than the best's."""
    seed: NonNegativeInt = 0
    """Seed of the sampler."""
    resources: ResourcesConfig = ResourcesConfig()
    retention: RetentionConfig = RetentionConfig()
    trial: TrialConfig
    """The base: a complete trial; the space and the baselines replace some of its fields."""
    baselines: list[dict[str, Any]] = Field(default=[])
    """Fixed trials that stand beside the search, each given by the fields it replaces in the base, and a `label` of its
    own if the report is to call it by a name."""
    space: dict[str, SpaceEntry] = Field(default={})
    """Field path within `trial` → what it may become."""

    @model_validator(mode="after")
    def _objectives_are_recorded(self) -> Self:
        known = {
            self.trial.evaluation.metric: "maximize",
            "loss": "minimize",
            **dict.fromkeys(SIZES, "minimize"),
        }
        for name, direction in self.objectives.items():
            if name not in known:
                raise ValueError(f"objective {name!r} is no recorded figure; known: {', '.join(sorted(known))}")
            if direction != known[name]:
                raise ValueError(f"objective {name!r} must be {known[name]}d, not {direction}d")
        if len(self.objectives) != 2 or sum(name in SIZES for name in self.objectives) != 1:
            raise ValueError(f"objectives must be one quality figure and one size, got {', '.join(self.objectives)}")
        if "loss" not in self.objectives and self.recommend_within >= 1:
            raise ValueError(
                f"recommend_within must be below 1, a share of the examples, got {self.recommend_within:g}; "
                "one point is 0.01"
            )
        return self

    @model_validator(mode="after")
    def _quantization_has_a_gpu(self) -> Self:
        if self.trial.model.quantization is not None and self.resources.gpus_per_worker == 0:
            raise ValueError(
                f"trial.model.quantization {self.trial.model.quantization!r} needs CUDA, "
                "but resources.gpus_per_worker is 0"
            )
        return self

    @model_validator(mode="after")
    def _space_names_fields(self) -> Self:
        problems = []
        for path, entry in self.space.items():
            problems += _field_problem(path, f"space.{path}")
            if isinstance(entry, Uniform | LogUniform) and takes_whole_numbers_only(TrialConfig, path):
                low, high = entry.corners()
                kind = "log_int" if isinstance(entry, LogUniform) else "int"
                problems.append(f"space.{path}: takes whole numbers only; write {{{kind}: [{low:g}, {high:g}]}}")
            for parent, values in entry.when.items():
                if parent == path or parent not in self.space:
                    problems.append(f"space.{path}.when: {parent!r} is not another entry of the space")
                else:
                    problems += _impossible(self.space[parent], parent, values, f"space.{path}.when")
        for i, baseline in enumerate(self.baselines):
            for path in baseline.keys() - {LABEL}:
                problems += _field_problem(path, f"baselines[{i}].{path}")
        problems += self._label_problems()
        searched = any(not isinstance(entry, Value) for entry in self.space.values())
        if self.num_trials > 0 and not searched:
            problems.append("space: nothing is searched; give a choice, uniform, log_uniform, int or log_int")
        if self.num_trials == 0 and (self.space or not self.baselines):
            problems.append("num_trials 0 runs the baselines alone: it needs some, and an empty space")
        if problems:
            raise ValueError("\n".join(problems))
        ask_order(self.space)
        return self

    @model_validator(mode="after")
    def _every_suggestion_is_valid(self) -> Self:
        problems: dict[str, str] = {}
        for i, baseline in enumerate(self.baselines):
            for message in _trial_problems(self.trial, without_label(baseline), self.quality):
                problems.setdefault(message, f"baselines[{i}]")
        if not problems:
            problems |= _same_trials(self.baseline_trials(), self.baseline_labels())
        of_space: dict[str, str] = {}
        for values in corners(self.space, inner=True):
            for message in _trial_problems(self.trial, values, self.quality):
                shown = ", ".join(f"{path}={value}" for path, value in values.items())
                if message not in problems:
                    of_space.setdefault(message, f"space at {shown}")
        lines = [f"{where}: {message}" for message, where in (problems | of_space).items()]
        most = len(problems) + MOST_PROBLEMS
        if len(lines) > most:
            lines[most - 1 :] = [f"{lines[most - 1]} (and {len(lines) - most} more in the space)"]
        if lines:
            raise ValueError("\n".join(lines))
        return self

    @property
    def quality(self) -> str:
        """The objective that is no size."""
        (name,) = (name for name in self.objectives if name not in SIZES)
        return name

    def _label_problems(self) -> list[str]:
        labels = [baseline[LABEL] for baseline in self.baselines if LABEL in baseline]
        problems = [f"baselines: label {label!r} must be a text" for label in labels if not _is_text(label)]
        if not problems:
            twice = sorted(label for label, count in Counter(labels).items() if count > 1)
            problems = [f"baselines: label {label!r} is given twice" for label in twice]
        return problems

    def baseline_trials(self) -> list[TrialConfig]:
        """The baselines, resolved."""
        return [trial_with(self.trial, without_label(baseline)) for baseline in self.baselines]

    def baseline_labels(self) -> list[str | None]:
        """What the report calls the baselines, in their order; None: by their method."""
        return [baseline.get(LABEL) for baseline in self.baselines]


def _same_trials(trials: list[TrialConfig], labels: list[str | None]) -> dict[str, str]:
    """Problem → where, for baselines of one configuration and two labels: a trial has one name."""
    problems: dict[str, str] = {}
    names: dict[str, str] = {}
    for i, (trial, label) in enumerate(zip(trials, labels, strict=True)):
        first = names.setdefault(trial.model_dump_json(), label) if label is not None else None
        if first != label:
            problems[f"{label!r} is the same trial as {first!r}"] = f"baselines[{i}]"
    return problems


def without_label(baseline: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a baseline replaces."""
    return {path: value for path, value in baseline.items() if path != LABEL}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def trial_with(base: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """The base with some fields replaced, validated. Raises pydantic.ValidationError."""
    # What the base leaves open stays open: a field that another value needs, or forbids, is resolved with it.
    return TrialConfig.model_validate(with_values(base.model_dump(exclude_unset=True), values))


def applies(entry: SpaceEntry, values: Mapping[str, Any]) -> bool:
    """Whether a conditional entry is active under the values chosen so far."""
    return all(parent in values and values[parent] in allowed for parent, allowed in entry.when.items())


def ask_order(space: Mapping[str, SpaceEntry]) -> list[str]:
    """The entries' paths, each after those its `when` names, otherwise as in the file. Raises ValueError on a cycle."""
    order: list[str] = []
    while len(order) < len(space):
        ready = [path for path in space if path not in order and set(space[path].when) <= set(order)]
        if not ready:
            raise ValueError(
                f"space: `when` goes in a circle: {', '.join(path for path in space if path not in order)}"
            )
        order.append(ready[0])
    return order


def corners(space: Mapping[str, SpaceEntry], *, inner: bool = False) -> Iterator[dict[str, Any]]:
    """Every combination of categorical values, each at the corners of the numeric ranges.

    Above MOST_CORNERS combinations, the numeric entries are taken all low, all high, and each one alone at its other
    end; categorical values stay exhaustive. With `inner`, also each value between the ends of a numeric entry, while
    the others are all low and all high; of more than MOST_INNER such combinations an even selection.
    """
    order = ask_order(space)
    numeric = {path: space[path] for path in order if isinstance(space[path], Numeric)}
    ends = {path: entry.corners() for path, entry in numeric.items()}
    categorical = [path for path in order if path not in numeric]
    num_combinations = _product(len(space[path].corners()) for path in categorical)
    n = len(numeric)
    sides: list[tuple[int, ...]] = list(itertools.islice(itertools.product((0, 1), repeat=n), MOST_CORNERS + 1))
    if len(sides) * num_combinations > MOST_CORNERS:
        flips = [tuple(int(i == j) ^ side for i in range(n)) for j in range(n) for side in (0, 1)]
        sides = list(dict.fromkeys([(0,) * n, (1,) * n, *flips]))
    picks = [{path: ends[path][side] for path, side in zip(numeric, row, strict=True)} for row in sides]
    if inner:
        between = {path: entry.inner() for path, entry in numeric.items() if isinstance(entry, Numeric)}
        stride = 1 + 2 * sum(map(len, between.values())) * num_combinations // MOST_INNER
        picks += [
            {other: ends[other][side] for other in numeric} | {path: value}
            for path, values in between.items()
            for value in values[::stride]
            for side in (0, 1)
        ]
    seen = set()
    for combination in itertools.product(*(space[path].corners() for path in categorical)):
        for pick in picks:
            chosen = dict(zip(categorical, combination, strict=True)) | pick
            values: dict[str, Any] = {}
            for path in order:
                if applies(space[path], values):
                    values[path] = chosen[path]
            if (identity := repr(sorted(values.items(), key=lambda item: item[0]))) not in seen:
                seen.add(identity)
                yield values


def _impossible(parent: SpaceEntry, name: str, values: list[Any], where: str) -> list[str]:
    """Values that a condition waits for in vain."""
    if isinstance(parent, Uniform | LogUniform):
        return [f"{where}: {name!r} is continuous; a condition needs a choice, an int or a value"]
    possible = parent.values() if isinstance(parent, IntRange | LogInt) else parent.corners()
    return [f"{where}: {name!r} never is {value!r}" for value in values if value not in possible]


def _product(factors: Iterator[int]) -> int:
    total = 1
    for factor in factors:
        total *= factor
    return total


def _field_problem(path: str, where: str) -> list[str]:
    if is_field(TrialConfig, path):
        return []
    close = difflib.get_close_matches(path, all_fields(TrialConfig), n=1)
    return [f"{where}: {path!r} is no field of a trial" + (f"; did you mean {close[0]!r}?" if close else "")]


def _trial_problems(base: TrialConfig, values: Mapping[str, Any], quality: str) -> list[str]:
    try:
        trial = trial_with(base, values)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, details['loc']))}: {line}".removeprefix(": ")
            for details in error.errors()
            for line in details["msg"].removeprefix("Value error, ").split("\n")
        ]
    metric = trial.evaluation.metric
    if quality not in (metric, "loss"):
        return [f"evaluation.metric {metric!r} does not record the objective {quality!r}"]
    return []
