"""Which method wins at equal size: each method's learning rate is tuned, then fresh seeds are trained and tested.

A comparison is an ordinary sweep file whose labelled baselines are the methods. Every training is a trial of the
product's own sweep, so records, adapters and report are kept, and a comparison that was cut short goes on.

1. Tuning: every method at learning rates a factor 2 apart, around its own, judged on the validation split. A method
   whose best rate is the lowest or the highest tried gets another one on that side, until none is.
2. Comparison: every method at its best rate with fresh seeds, their adapters judged on the test split. What that
   tells of the methods is what `prunedlora compare` says of means over seeds (results/comparison/method_means.py).
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from prunedlora.benchmarks.comparison import ComparisonError, Contender, Training, Trainings
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.benchmarks.tested_candidates import Examiner
from prunedlora.benchmarks.tuning import tune, tuning_figures
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.decision import CONFIDENCE
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.comparison.comparison_page import methods_document
from prunedlora.results.comparison.comparison_tables import matched_table
from prunedlora.results.comparison.method_means import Settings, contrast_methods
from prunedlora.results.comparison.verdicts import Terms
from prunedlora.results.comparison.words import method_sentences
from prunedlora.results.record import ExampleOutcomes

Tests = dict[Contender, dict[int, tuple[Point, ExampleOutcomes | None]]]
"""Adapter with its test quality and outcomes by seed; a seed whose training failed, left no component, or whose adapter
was refused, is left out."""


def compare(
    trainings: Trainings,
    *,
    num_rates: int,
    num_tuning_seeds: int,
    num_seeds: int,
    against: str | None = None,
    device: torch.device,
    console: Console,
) -> dict[str, Any]:
    """Tunes, trains and tests: {method: {adapter parameters: (mean, standard error over seeds, seeds)}, details}.

    `num_rates`: learning rates tried at first, a factor 2 apart. `against`: name of the contender that all others are
    compared with, by default the first that is tuned. The details hold each one's verdict (`verdicts`), paired by seed
    and by example, for all at once; a contender of which a seed has no test figure gets none. What is in no mean, the
    details name: methods without a best rate (`untuned`), refused adapters, and seeds without a test figure (null), of
    failed trainings too. A contender of which no seed is left has no figures.

    Raises ComparisonError: `against` is no contender, no method has a best rate, or the sweep was cut short.
    """
    contenders = list(trainings.contenders())
    names = [contender.name for contender in contenders]
    if against is not None and against not in names:
        raise ComparisonError(f"--against {against!r} is none of: {', '.join(map(repr, names))}")
    first = trainings.config.trial.seed
    tuning = range(first, first + num_tuning_seeds)
    fresh = range(tuning.stop, tuning.stop + num_seeds)
    tuned = tune(trainings, contenders, trainings.quality, num_rates, tuning, console)
    trainings.train([Training(c.label, power, seed) for c, power in tuned.best.items() for seed in fresh])
    tests, refused = _tests(trainings, tuned.best, fresh, device, console)
    differences = {} if against is None else _differences(tests, against)
    if against is not None and not differences:
        print_plain(console, f"{against} has no seed in common with others: nothing is compared with it")
    console.print(_table(trainings, tuned.best, tests, len(fresh), differences, against))
    verdicts = _verdicts(trainings, tests, fresh, against, console)
    methods: dict[str, Any] = {}
    for contender, tested in tests.items():
        if tested:
            params = statistics.fmean(point.candidate.adapter_params for point, _ in tested.values())
            figures = over_seeds([point.quality.value for point, _ in tested.values()])
            methods.setdefault(contender.label, {})[str(round(params))] = figures
    details: dict[str, Any] = {
        "metric": trainings.objectives.quality,
        "tuning_seeds": list(tuning),
        "learning_rate": {c.name: trainings.rate(c.label, power) for c, power in tuned.best.items()},
        "tuning": {
            c.name: tuning_figures(trainings, c, trainings.quality, tuned.powers[c.labels], tuning) for c in contenders
        },
        "untuned": tuned.untuned,
        "test": {
            c.name: {s: tested[s][0].quality.value if s in tested else None for s in fresh}
            for c, tested in tests.items()
        },
        "verdicts": verdicts,
        "refused": refused,
        "train_seconds": {
            c.name: [point.candidate.train_seconds for point, _ in tested.values()] for c, tested in tests.items()
        },
    }
    if against is not None:
        details["difference"] = {"against": against} | differences
    return methods | {"details": details}


def _tests(
    trainings: Trainings, best: Mapping[Contender, int], seeds: Sequence[int], device: torch.device, console: Console
) -> tuple[Tests, dict[str, str]]:
    """Test figures, and for every adapter that was refused (damaged, or not the same in plain PEFT) the reason."""
    examiner, objectives = Examiner(trainings.store, device, console), trainings.objectives
    tests: Tests = {}
    for contender, power in best.items():
        points: dict[int, Point] = {}
        for seed in seeds:
            found = trainings.candidate(contender, power, seed)
            figures = None if found is None else examiner.figures(f"{contender.name}, seed {seed}", *found)
            if found is not None and figures is not None:
                size = found[1].objective(objectives.size)
                points[seed] = Point(*found, quality=figures[objectives.quality], size=size)
        outcomes = examiner.outcomes([(point.record, point.candidate) for point in points.values()])
        tests[contender] = dict(zip(points, zip(points.values(), outcomes, strict=True), strict=True))
    return tests, examiner.refused


def _verdicts(
    trainings: Trainings, tests: Tests, seeds: Sequence[int], against: str | None, console: Console
) -> dict[str, dict[str, Any]]:
    """What is told of each contender beside `against` (None: the first), by its name; prints it."""
    objectives, within = trainings.objectives, trainings.config.recommend_within
    settings = {
        contender.name: Settings(
            points=tuple(point for point, _ in tested.values()),
            outcomes=tuple(outcomes for _, outcomes in tested.values()),
            num_failed=len(seeds) - len(tested),
        )
        for contender, tested in tests.items()
    }
    control = next(iter(settings)) if against is None else against
    if control not in settings:
        return {}  # it has no best rate, which is said
    names = [control, *(name for name in settings if name != control)]
    found = contrast_methods(
        [(name, [settings[name]] if len(seeds) > 1 else []) for name in names],
        objectives,
        within=within,
        confidence=CONFIDENCE,
        rng=np.random.default_rng(trainings.config.seed),
    )
    verdicts = {}
    for name, methods in zip(names[1:], found, strict=True):
        terms = Terms(name, control, objectives.size, within, CONFIDENCE)
        print_plain(console, " ".join(method_sentences(terms, methods)))
        if methods.at:
            console.print(matched_table(terms, f"Test {objectives.quality}, means over {len(seeds)} seeds", methods.at))
        verdicts[name] = {"against": control, **methods_document(methods)}
    return verdicts


def _differences(tests: Tests, against: str) -> dict[str, tuple[float, float | None, int]]:
    """Each other contender's figure minus that of `against` at the same seed: mean, standard error, seeds."""
    reference = next((tested for contender, tested in tests.items() if contender.name == against), {})
    found = {}
    for contender, tested in tests.items():
        differences = [
            tested[seed][0].quality.value - reference[seed][0].quality.value for seed in tested if seed in reference
        ]
        if contender.name != against and differences:
            found[contender.name] = over_seeds(differences)
    return found


def _table(
    trainings: Trainings,
    best: Mapping[Contender, int],
    tests: Tests,
    num_seeds: int,
    differences: Mapping[str, tuple[float, float | None, int]],
    against: str | None,
) -> Table:
    title = f"Test {trainings.objectives.quality}, {num_seeds} seeds" + (
        f"; minus that of {against}" if against else ""
    )
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    table.add_column("method", overflow="fold")
    for name in ("params", "mean", "stderr", "seeds", "failed", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    if against is not None:
        table.add_column("minus", justify="right", no_wrap=True)
    for contender, tested in tests.items():
        rate = f"{trainings.rate(contender.label, best[contender]):g}"
        if not tested:
            table.add_row(contender.name, "", "", "", "0", str(num_seeds), rate)
            continue
        mean, stderr, count = over_seeds([point.quality.value for point, _ in tested.values()])
        params = round(statistics.fmean(point.candidate.adapter_params for point, _ in tested.values()))
        spread = "" if stderr is None else f"{stderr:.4f}"
        failed = str(num_seeds - count) if count < num_seeds else ""
        row = [contender.name, f"{params:,}", f"{mean:.4f}", spread, str(count), failed, rate]
        if contender.name in differences:
            mean, stderr, _ = differences[contender.name]
            row.append(f"{mean:+.4f}" + ("" if stderr is None else f" ± {stderr:.4f}"))
        table.add_row(*row)
    return table
