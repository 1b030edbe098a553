"""Which method wins at equal size: each method's learning rate is tuned, then fresh seeds are trained and tested.

A comparison is an ordinary sweep file whose labelled baselines are the methods. Every training is a trial of the
product's own sweep, so records, adapters and report are kept, and a comparison that was cut short goes on.

1. Tuning: every method at learning rates a factor 2 apart, around its own, judged on the validation split. A method
   whose best rate is the lowest or the highest tried gets another one on that side, until none is.
2. Comparison: every method at its best rate with fresh seeds, their adapters judged on the test split.
"""

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from prunedlora.adapters.verify import VerificationError
from prunedlora.benchmarks.comparison import ComparisonError, Contender, Training, Trainings
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.results.record import Candidate
from prunedlora.search.assets import AssetCache
from prunedlora.search.execute import execute_test
from prunedlora.search.finish import TEST_FILE, read_test_figures
from prunedlora.search.stored_adapter import StoredAdapterError
from prunedlora.training.distributed import Workers

MOST_WIDENINGS = 6
"""How often a method's learning rates may be widened: 64 times its own is no matter of tuning."""

Tests = dict[Contender, list[tuple[Candidate, float]]]
"""Adapter and test quality per seed that has both."""


def compare(
    trainings: Trainings,
    *,
    num_rates: int,
    num_tuning_seeds: int,
    num_seeds: int,
    device: torch.device,
    console: Console,
) -> dict[str, Any]:
    """Tunes, trains and tests: {method: {adapter parameters: (mean, standard error over seeds, seeds)}, details}.

    `num_rates`: learning rates tried at first, a factor 2 apart. Seeds whose training failed, left no component, or
    whose adapter was refused, are in no mean: their number is in the details, with the reason of a refusal, and a
    contender of which none is left has no figures.

    Raises ComparisonError: a method fails at every learning rate, or its best always lies at the edge, or the sweep was
    cut short.
    """
    first = trainings.config.trial.seed
    tuning = range(first, first + num_tuning_seeds)
    fresh = range(tuning.stop, tuning.stop + num_seeds)
    powers, best = tune(trainings, num_rates, tuning, console)
    trainings.train([Training(c.label, power, seed) for c, power in best.items() for seed in fresh])
    tests, refused = _tests(trainings, best, fresh, device, console)
    quality = trainings.objectives.quality
    console.print(_table(trainings, best, tests, len(fresh)))
    methods: dict[str, Any] = {}
    for contender, tested in tests.items():
        if tested:
            params = statistics.fmean(candidate.adapter_params for candidate, _ in tested)
            methods.setdefault(contender.label, {})[str(round(params))] = over_seeds([value for _, value in tested])
    details = {
        "metric": quality,
        "tuning_seeds": list(tuning),
        "seeds": list(fresh),
        "learning_rate": {c.name: trainings.rate(c.label, power) for c, power in best.items()},
        "tuning": {c.name: _tuning(trainings, c, powers[c.label], tuning) for c in best},
        "test": {c.name: [value for _, value in tested] for c, tested in tests.items()},
        "refused": refused,
        "seeds_without_adapter": {c.name: len(fresh) - len(tested) for c, tested in tests.items()},
        "train_seconds": {c.name: [candidate.train_seconds for candidate, _ in tested] for c, tested in tests.items()},
    }
    return methods | {"details": details}


def tune(
    trainings: Trainings, num_rates: int, seeds: Sequence[int], console: Console
) -> tuple[dict[str, list[int]], dict[Contender, int]]:
    """Powers of the learning rates tried per method, rising, and each contender's best, which lies between others."""
    contenders = list(trainings.contenders())
    lowest = -(num_rates // 2)
    powers = {c.label: list(range(lowest, lowest + num_rates)) for c in contenders}
    for _ in range(MOST_WIDENINGS):
        trainings.train([Training(label, power, s) for label, row in powers.items() for power in row for s in seeds])
        best = {c: max(powers[c.label], key=partial(_quality, trainings, c, seeds)) for c in contenders}
        beyond: dict[str, set[int]] = {}
        for c, power in best.items():
            if trainings.quality(c, power, seeds)[0] == -inf:
                raise ComparisonError(f"{c.name}: the trainings fail at every learning rate; see the report")
            row = powers[c.label]
            if power in (row[0], row[-1]):
                beyond.setdefault(c.label, set()).add(row[0] - 1 if power == row[0] else row[-1] + 1)
        if not beyond:
            return powers, best
        for label, more in beyond.items():
            powers[label] = sorted({*powers[label], *more})
            console.print(f"{label}: the best learning rate lies at the edge of those tried; one more.", markup=False)
    raise ComparisonError(f"{', '.join(beyond)}: the best learning rate still lies at the edge, {powers}")


def _tests(
    trainings: Trainings, best: Mapping[Contender, int], seeds: Sequence[int], device: torch.device, console: Console
) -> tuple[Tests, dict[str, str]]:
    """With why adapters were refused: an adapter that others would not get must not end the comparison."""
    store, assets, workers = trainings.store, AssetCache(device), Workers(0, 1, device)
    tests: Tests = {}
    refused: dict[str, str] = {}
    for contender, power in best.items():
        tests[contender] = []
        for seed in seeds:
            found = trainings.candidate(contender, power, seed)
            if found is None or found[1].adapter_path is None:
                continue
            record, candidate = found
            path = store.trial_path(record.key, str(candidate.adapter_path), TEST_FILE)
            if not store.storage.exists(path):
                trial = trainings.trial(Training(contender.label, power, seed))
                try:
                    execute_test(trial, record.key, candidate.name, store=store, assets=assets, workers=workers)
                except (StoredAdapterError, VerificationError) as error:
                    name = f"{contender.name}, seed {seed}"
                    refused[name] = str(error)
                    console.print(f"{name}: refused, in no mean: {error}", markup=False)
                    continue
            value = read_test_figures(store, path)[trainings.objectives.quality].value
            tests[contender].append((candidate, value))
    return tests, refused


def _quality(trainings: Trainings, contender: Contender, seeds: Sequence[int], power: int) -> tuple[float, float]:
    return trainings.quality(contender, power, seeds)


def _tuning(
    trainings: Trainings, contender: Contender, powers: Sequence[int], seeds: Sequence[int]
) -> dict[str, float | None]:
    """Learning rate → mean validation quality; None where a training failed."""
    found = {power: trainings.quality(contender, power, seeds)[0] for power in powers}
    gain = trainings.objectives.gain
    return {
        f"{trainings.rate(contender.label, power):g}": None if value == -inf else gain(value)
        for power, value in found.items()
    }


def _table(trainings: Trainings, best: Mapping[Contender, int], tests: Tests, num_seeds: int) -> Table:
    title = f"Test {trainings.objectives.quality}, {num_seeds} seeds"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    table.add_column("method", overflow="fold")
    for name in ("params", "mean", "stderr", "seeds", "failed", "learning rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for contender, tested in tests.items():
        rate = f"{trainings.rate(contender.label, best[contender]):g}"
        if not tested:
            table.add_row(contender.name, "", "", "", "0", str(num_seeds), rate)
            continue
        mean, stderr, count = over_seeds([value for _, value in tested])
        params = round(statistics.fmean(candidate.adapter_params for candidate, _ in tested))
        spread = "" if stderr is None else f"{stderr:.4f}"
        failed = str(num_seeds - count) if count < num_seeds else ""
        table.add_row(contender.name, f"{params:,}", f"{mean:.4f}", spread, str(count), failed, rate)
    return table
