"""What one training gives at many sizes, against trainings made for each: tuned, trained with fresh seeds, tested.

A comparison as in accuracy.py, whose methods belong to variants (ladder_variants.py): each variant gives several sizes,
and is judged by its quality at each of them and by the area over them, seed by seed (ladder_answers.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from rich.console import Console

from prunedlora.benchmarks.comparison import ComparisonError, Training, Trainings, UntrainedError
from prunedlora.benchmarks.ladder_answers import mean_gain
from prunedlora.benchmarks.ladder_variants import (
    Group,
    Variant,
    num_steps_of,
    validation_quality,
    variants_of,
)
from prunedlora.benchmarks.tested_candidates import Examiner
from prunedlora.benchmarks.tuning import Tuned, tune, tuning_figures
from prunedlora.config.identity import trial_key
from prunedlora.plain_print import print_plain
from prunedlora.results.record import Figure


@dataclass(frozen=True)
class Plan:
    """What is trained and asked."""

    num_rates: int
    """Learning rates tried at first, a factor 2 apart; 1: each training's own, untuned."""
    num_tuning_seeds: int
    num_seeds: int
    margin: float
    """How much the ladder may lose: of the quality; of a loss a share of the reference's mean."""
    ladder: str | None = None
    """The variant that is asked about."""
    reference: str | None = None
    """That it is compared with at each size."""
    rival: str | None = None
    """That it is compared with over all sizes."""

    def check(self, names: list[str]) -> None:
        """Raises ComparisonError for a name that no variant has, or one that is compared with nothing."""
        for option in ("ladder", "reference", "rival"):
            name = getattr(self, option)
            if name is not None and name not in names:
                raise ComparisonError(f"--{option} {name!r} is none of: {', '.join(map(repr, names))}")
            if name is not None and self.ladder is None:
                raise ComparisonError(f"--{option} {name!r} is compared with --ladder, which is not given")

    def seeds(self, first: int) -> tuple[range, range]:
        """Those of tuning, and fresh ones."""
        fresh = first + self.num_tuning_seeds
        return range(first, fresh), range(fresh, fresh + self.num_seeds)


@dataclass
class Measured:
    """A variant's test figures."""

    variant: Variant
    rates: dict[str, float]
    """Tuned group → learning rate."""
    tests: dict[int, dict[int, dict[str, Figure]]] = field(default_factory=dict)
    """Size in parameters → seed → figure; a seed whose training failed or whose adapter was refused is left out."""
    missing: dict[str, list[int]] = field(default_factory=dict)
    """Training and size → seeds without figures."""
    areas: dict[int, float] = field(default_factory=dict)
    """Seed that has all of the variant's sizes → mean gain over them."""

    def quality(self, size: int, name: str) -> dict[int, float]:
        """By seed."""
        return {seed: figures[name].value for seed, figures in self.tests.get(size, {}).items()}


@dataclass(frozen=True)
class Results:
    plan: Plan
    tuning: dict[str, dict[str, float | None]]
    """Tuned group → learning rate → mean validation quality."""
    untuned: dict[str, str]
    refused: dict[str, str]
    base: float
    """Quality of the untrained base model, on the validation split."""
    sizes: list[int]
    """Of all variants, falling."""
    variants: dict[str, Measured]


def left_to_train(trainings: Trainings, plan: Plan) -> str:
    """How many trainings and steps are to be done, as far as it can be told now; nothing is trained."""
    dry = Trainings(trainings.config, trainings.store, lambda _: None)
    variants, fresh = variants_of(dry), plan.seeds(dry.config.trial.seed)[1]
    is_tuned = True
    try:
        best = _tune(dry, variants, plan, Console(quiet=True)).best
    except UntrainedError:
        is_tuned, best = False, {group: 0 for variant in variants for group in variant.groups}
    dry.train([Training(label, power, seed) for g, power in best.items() for label in g.labels for seed in fresh])
    trials = [dry.trial(training) for training in dry.done]
    left = [t for t in trials if dry.store.read_record(trial_key(t)) is None]
    steps = sum(map(num_steps_of, left))
    more = "" if is_tuned else ", and more where the best rate lies at the edge of those tried"
    return f"{len(left):,} of {len(trials):,} trainings are left: {steps:,} steps{more}"


def measure(trainings: Trainings, plan: Plan, *, device: torch.device, console: Console) -> Results:
    """Tunes, trains and tests.

    Raises ComparisonError: the plan names no variant, a variant gives a size twice, nothing is tuned, or the sweep was
    cut short.
    """
    variants = variants_of(trainings)
    plan.check([variant.name for variant in variants])
    tuning, fresh = plan.seeds(trainings.config.trial.seed)
    print_plain(console, left_to_train(trainings, plan))
    tuned = _tune(trainings, variants, plan, console)
    trainings.train([Training(label, p, seed) for g, p in tuned.best.items() for label in g.labels for seed in fresh])
    examiner = Examiner(trainings.store, device, console)
    measured = {variant.name: _tests(trainings, variant, tuned.best, fresh, examiner) for variant in variants}
    base = trainings.store.read_base()
    if base is None:
        raise ComparisonError("the base model is not measured yet: run the same command again")
    level = base.figures[trainings.objectives.quality].value
    sizes = sorted({size for each in measured.values() for size in each.tests}, reverse=True)
    for each in measured.values():
        each.areas |= _areas(trainings, each, level, sizes, fresh)
    groups = [group for variant in variants for group in variant.groups]
    return Results(
        plan,
        {
            g.name: tuning_figures(trainings, g, partial(validation_quality, trainings), tuned.powers[g.labels], tuning)
            for g in groups
        },
        tuned.untuned,
        examiner.refused,
        level,
        sizes,
        measured,
    )


def _tune(trainings: Trainings, variants: list[Variant], plan: Plan, console: Console) -> Tuned[Group]:
    groups = [group for variant in variants for group in variant.groups]
    tuning, _ = plan.seeds(trainings.config.trial.seed)
    return tune(trainings, groups, partial(validation_quality, trainings), plan.num_rates, tuning, console)


def _tests(
    trainings: Trainings, variant: Variant, best: Mapping[Group, int], seeds: range, examiner: Examiner
) -> Measured:
    rates = {g.name: trainings.rate(g.labels[0], best[g]) for g in variant.groups if g in best}
    measured = Measured(variant, rates)
    for group in variant.groups:
        for planned in group.planned:
            name = f"{planned.label}, {planned.size}"
            if group not in best:
                measured.missing[name] = list(seeds)
                continue
            of_size: dict[int, dict[int, dict[str, Figure]]] = {}
            for seed in seeds:
                record = trainings.record(Training(planned.label, best[group], seed))
                candidate = None if record is None else planned.found(record)
                figures = None
                if record is not None and candidate is not None:
                    figures = examiner.figures(f"{name}, seed {seed}", record, candidate)
                if record is None or candidate is None or figures is None:
                    measured.missing.setdefault(name, []).append(seed)
                else:
                    of_size.setdefault(planned.parameters(record, candidate), {})[seed] = figures
            if twice := of_size.keys() & measured.tests.keys():
                raise ComparisonError(f"{variant.name!r} gives {min(twice):,} parameters more than once ({name})")
            measured.tests |= of_size
    return measured


def _areas(trainings: Trainings, of: Measured, base: float, sizes: list[int], seeds: range) -> dict[int, float]:
    objectives = trainings.objectives
    areas = {}
    for seed in seeds:
        gains = {
            size: objectives.gain(figures[seed][objectives.quality].value)
            for size, figures in of.tests.items()
            if seed in figures
        }
        if gains and not any(seed in failed for failed in of.missing.values()):
            areas[seed] = mean_gain(gains, objectives.gain(base), sizes[-1], sizes[0])
    return areas
