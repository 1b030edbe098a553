"""What one training gives at many sizes, against trainings made for each: tuned, trained with fresh seeds, tested.

A comparison as in accuracy.py, whose methods belong to variants (ladder_variants.py): each variant gives several sizes,
and is judged by its quality at each of them and by the area over them, seed by seed (ladder_answers.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from rich.console import Console

from prunedlora.benchmarks.comparison import Training, Trainings, UntrainedError
from prunedlora.benchmarks.ladder_results import Measured, Plan, Results
from prunedlora.benchmarks.ladder_sizes import SizesInParameters, axis_of, component_sizes
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
from prunedlora.config.sweep import SweepConfig
from prunedlora.plain_print import print_plain


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


def measure(trainings: Trainings, plan: Plan, *, whole: SweepConfig, device: torch.device, console: Console) -> Results:
    """Tunes, trains and tests. `whole`: the sweep with all of its trainings, be they chosen or not: their sizes are the
    axis of hypervolumes, which is the same for whatever is chosen.

    Raises ComparisonError: the plan names no variant, a variant gives a size twice, nothing is tuned, or the sweep was
    cut short.
    """
    variants = variants_of(trainings)
    plan.check([variant.name for variant in variants])
    sizes = SizesInParameters(trainings.store)
    components = {v.name: component_sizes(trainings, v, sizes) for v in variants}
    axis = axis_of(replace(trainings, config=whole), sizes)
    tuning, fresh = plan.seeds(trainings.config.trial.seed)
    print_plain(console, left_to_train(trainings, plan))
    tuned = _tune(trainings, variants, plan, console)
    trainings.train([Training(label, p, seed) for g, p in tuned.best.items() for label in g.labels for seed in fresh])
    examiner = Examiner(trainings.store, device, console)
    measured = {v.name: _tests(trainings, v, components[v.name], tuned.best, fresh, examiner) for v in variants}
    base = examiner.base_figures(trainings.config.trial)[trainings.objectives.quality].value
    groups = [group for variant in variants for group in variant.groups]
    found = {
        g.name: tuning_figures(trainings, g, partial(validation_quality, trainings), tuned.powers[g.labels], tuning)
        for g in groups
    }
    return Results(plan, found, tuned.untuned, examiner.refused, base, axis, measured)


def _tune(trainings: Trainings, variants: list[Variant], plan: Plan, console: Console) -> Tuned[Group]:
    groups = [group for variant in variants for group in variant.groups]
    tuning, _ = plan.seeds(trainings.config.trial.seed)
    return tune(trainings, groups, partial(validation_quality, trainings), plan.num_rates, tuning, console)


def _tests(
    trainings: Trainings,
    variant: Variant,
    components: Mapping[str, int],
    best: Mapping[Group, int],
    seeds: range,
    examiner: Examiner,
) -> Measured:
    rates = {g.name: trainings.rate(g.labels[0], best[g]) for g in variant.groups if g in best}
    every = [(g, p, p.size.parameters(components[p.label])) for g in variant.groups for p in g.planned]
    measured = Measured(variant, rates, tuple(sorted((size for _, _, size in every), reverse=True)))
    for group, planned, size in every:
        name = f"{planned.label}, {planned.size}"
        for seed in seeds:
            record = trainings.record(Training(planned.label, best[group], seed)) if group in best else None
            candidate = None if record is None else planned.found(record)
            figures = None
            if record is not None and candidate is not None:
                figures = examiner.figures(f"{name}, seed {seed}", record, candidate)
            if figures is None:
                measured.missing.setdefault(name, []).append(seed)
            else:
                measured.tests.setdefault(size, {})[seed] = figures
    return measured
