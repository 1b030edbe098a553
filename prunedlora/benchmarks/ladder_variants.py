"""Variants of a comparison of sizes: the trainings that together give all of them, and what is tuned as one.

A method's label is `variant` or `variant: training`. A training gives one size or several: a ladder its trunk and every
rung, one with free cuts every cut. Ladders of a variant that differ in their rungs alone share a trunk, bit for bit.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from statistics import fmean
from typing import Literal

from prunedlora.benchmarks.comparison import ComparisonError, Training, Trainings
from prunedlora.config.methods import section_fields
from prunedlora.config.schedule import SizesConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.pruning.ladder import rungs_of
from prunedlora.results.record import Candidate, Cut, TrialRecord


@dataclass(frozen=True)
class Size:
    """What an adapter was planned for."""

    unit: Literal["mean_rank", "parameters"]
    value: Fraction

    def parameters(self, of_rank_1: int) -> int:
        """The most that it may have; `of_rank_1`: what a component in every layer takes."""
        return math.floor(self.value * (of_rank_1 if self.unit == "mean_rank" else 1))

    def __str__(self) -> str:
        return f"{self.unit.replace('_', ' ')} {float(self.value):g}"


@dataclass(frozen=True)
class Planned:
    """An adapter that a training is to leave, by where it is found among its candidates."""

    label: str
    """Of the training."""
    rung: int | None
    cut: Cut | None
    size: Size

    def found(self, record: TrialRecord) -> Candidate | None:
        """None where the training has left none such: it was stopped, or the cut passed over."""
        of_it = [c for c in record.candidates if (c.rung, c.cut) == (self.rung, self.cut)]
        done = [c for c in of_it if self.rung is not None or c.progress == 1.0]
        return done[-1] if done else None


@dataclass(frozen=True)
class Group:
    """Trainings of a variant that have one learning rate: a single one, or several that share a trunk."""

    name: str
    labels: tuple[str, ...]
    planned: tuple[Planned, ...]
    """What they leave; a shared trunk once."""
    num_steps: int
    """Of all of them, a shared trunk counted once."""


@dataclass(frozen=True)
class Variant:
    name: str
    groups: tuple[Group, ...]

    @property
    def num_steps(self) -> int:
        return sum(group.num_steps for group in self.groups)


def variants_of(trainings: Trainings) -> list[Variant]:
    """In the order of the sweep. Raises ComparisonError where a variant gives a size twice, or its sizes cannot be told
    beforehand."""
    members: dict[str, dict[str, list[str]]] = {}
    for baseline, trial in zip(trainings.config.baselines, trainings.config.baseline_trials(), strict=True):
        label = baseline["label"]
        shared = _trunk_settings(trial) or label
        members.setdefault(label.partition(": ")[0], {}).setdefault(shared, []).append(label)
    variants = []
    for name, groups in members.items():
        variant = Variant(name, tuple(_group(trainings, name, labels, len(groups) == 1) for labels in groups.values()))
        counted = Counter(planned.size for group in variant.groups for planned in group.planned)
        if twice := [str(size) for size, count in counted.items() if count > 1]:
            raise ComparisonError(f"{name!r} gives {', '.join(twice)} more than once: a variant gives each size once")
        variants.append(variant)
    return variants


def num_steps_of(trial: TrialConfig) -> int:
    """Raises ComparisonError for a training whose length is given in epochs."""
    if trial.training.num_steps is None:
        raise ComparisonError("costs are compared in steps: give training.num_steps instead of num_epochs")
    return trial.training.num_steps


def validation_quality(trainings: Trainings, group: Group, power: int, seeds: Sequence[int]) -> tuple[float, float]:
    """(mean quality, − mean loss) over the group's sizes and seeds on the validation split, more is better; −inf where
    a training failed or left a size out."""
    gains, losses = [], []
    for planned in group.planned:
        for seed in seeds:
            record = trainings.record(Training(planned.label, power, seed))
            candidate = None if record is None else planned.found(record)
            if candidate is None:
                return -inf, -inf
            gains.append(trainings.objectives.gain(candidate.figure(trainings.objectives.quality).value))
            losses.append(candidate.figure("loss").value)
    return fmean(gains), -fmean(losses)


def _group(trainings: Trainings, variant: str, labels: Sequence[str], is_all: bool) -> Group:
    trials = [trainings.trial(Training(label, 0, 0)) for label in labels]
    planned = [p for label, trial in zip(labels, trials, strict=True) for p in planned_adapters(label, trial)]
    # The first has the trunk of all.
    planned = [p for p in planned if p.label == labels[0] or p.rung != 0 or p.cut is not None]
    steps = sum(map(num_steps_of, trials)) - (len(trials) - 1) * _trunk_steps(trials[0])
    return Group(variant if is_all else ", ".join(labels), tuple(labels), tuple(planned), steps)


def _trunk_settings(trial: TrialConfig) -> str | None:
    """All settings of a ladder but its rungs' sizes; None of what is none."""
    if trial.pruning is None or trial.pruning.ladder is None:
        return None
    tree = trial.model_dump(mode="json")
    del tree["pruning"]["schedule"]["rungs"]
    return json.dumps(tree, sort_keys=True)


def _trunk_steps(trial: TrialConfig) -> int:
    if trial.pruning is None or trial.pruning.ladder is None:
        return 0
    return rungs_of(section_fields(trial.pruning)["ladder"], num_steps_of(trial))[0].end


def planned_adapters(label: str, trial: TrialConfig) -> Iterator[Planned]:
    """What a training is to leave. Raises ComparisonError where its sizes cannot be told beforehand."""
    rank = None if trial.adapter is None else trial.adapter.initial_rank
    if rank is None:
        raise ComparisonError(f"{label!r}: sizes are told by adapter.initial_rank, which it lacks")
    ladder = None if trial.pruning is None else trial.pruning.ladder
    if ladder is None:
        yield Planned(label, None, None, _end_size(trial, rank))
    else:
        yield Planned(label, 0, None, Size("mean_rank", Fraction(rank)))
        for number, size in enumerate(_sizes(ladder.rungs, rank), start=1):
            yield Planned(label, number, None, size)
    cuts = trial.free_cuts
    if cuts is None:
        return
    if cuts.at == "every_rung":
        raise ComparisonError(f"{label!r}: cuts.at every_rung gives sizes several times; take end")
    rung = None if ladder is None else len(ladder.rungs.sizes)
    for given, size in zip(cuts.sizes.sizes, _sizes(cuts.sizes, rank), strict=True):
        for basis in cuts.bases:
            for allocation in cuts.allocations:
                cut = Cut(basis=basis, allocation=allocation, unit=cuts.sizes.unit, size=float(given))
                yield Planned(label, rung, cut, size)


def _sizes(sizes: SizesConfig, initial_rank: int) -> Iterator[Size]:
    for size in sizes.sizes:
        value = Fraction(str(size))
        if sizes.unit == "parameters":
            yield Size("parameters", value)
        else:
            yield Size("mean_rank", value * initial_rank if sizes.unit == "kept" else value)


def _end_size(trial: TrialConfig, rank: int) -> Size:
    """Of a training that works towards one size."""
    target = Fraction(rank)
    if trial.adalora is not None:
        target = Fraction(trial.adalora.target_rank)
    elif trial.pruning is not None and trial.pruning.target_rank is not None:
        target = Fraction(trial.pruning.target_rank)
    elif trial.pruning is not None:
        target = rank * (1 - Fraction(str(trial.pruning.target_sparsity)))
    return Size("mean_rank", target)
