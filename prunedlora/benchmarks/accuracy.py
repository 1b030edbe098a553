"""Which method wins at equal size: each method's learning rate is tuned, then fresh seeds are trained and tested.

A comparison is an ordinary sweep file whose labelled baselines are the methods. Every training is a trial of the
product's own sweep, so records, adapters and report are kept, and a comparison that was cut short goes on.

1. Tuning: every method at learning rates a factor 2 apart, around its own, judged on the validation split. A method
   whose best rate is the lowest or the highest tried gets another one on that side, until none is.
2. Comparison: every method at its best rate with fresh seeds, their adapters judged on the test split.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from prunedlora.adapters.verify import VerificationError
from prunedlora.benchmarks.comparison import ComparisonError, Contender, Training, Trainings
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.delivery.candidate_test import TEST_FILE, measure_test, read_test_figures
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.stored_adapter import StoredAdapterError
from prunedlora.plain_print import print_plain
from prunedlora.results.record import Candidate
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache

MOST_WIDENINGS = 6
"""How often a method's learning rates may be widened: what lies further off is no matter of tuning."""

Tests = dict[Contender, dict[int, tuple[Candidate, float]]]
"""Adapter and test quality by seed; a seed whose training failed, left no component, or whose adapter was refused, is
left out."""


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
    compared with seed by seed. What is in no mean, the details name: methods without a best rate (`untuned`), refused
    adapters, and seeds without a test figure (null), of failed trainings too. A contender of which no seed is left has
    no figures.

    Raises ComparisonError: `against` is no contender, no method has a best rate, or the sweep was cut short.
    """
    names = [contender.name for contender in trainings.contenders()]
    if against is not None and against not in names:
        raise ComparisonError(f"--against {against!r} is none of: {', '.join(map(repr, names))}")
    first = trainings.config.trial.seed
    tuning = range(first, first + num_tuning_seeds)
    fresh = range(tuning.stop, tuning.stop + num_seeds)
    tuned = tune(trainings, num_rates, tuning, console)
    trainings.train([Training(c.label, power, seed) for c, power in tuned.best.items() for seed in fresh])
    tests, refused = _tests(trainings, tuned.best, fresh, device, console)
    differences = {} if against is None else _differences(tests, against)
    if against is not None and not differences:
        print_plain(console, f"{against} has no seed in common with others: nothing is compared with it")
    console.print(_table(trainings, tuned.best, tests, len(fresh), differences, against))
    methods: dict[str, Any] = {}
    for contender, tested in tests.items():
        if tested:
            params = statistics.fmean(candidate.adapter_params for candidate, _ in tested.values())
            figures = over_seeds([value for _, value in tested.values()])
            methods.setdefault(contender.label, {})[str(round(params))] = figures
    details: dict[str, Any] = {
        "metric": trainings.objectives.quality,
        "tuning_seeds": list(tuning),
        "learning_rate": {c.name: trainings.rate(c.label, power) for c, power in tuned.best.items()},
        "tuning": {c.name: _tuning(trainings, c, tuned.powers[c.label], tuning) for c in trainings.contenders()},
        "untuned": tuned.untuned,
        "test": {c.name: {s: tested[s][1] if s in tested else None for s in fresh} for c, tested in tests.items()},
        "refused": refused,
        "train_seconds": {c.name: [a.train_seconds for a, _ in tested.values()] for c, tested in tests.items()},
    }
    if against is not None:
        details["difference"] = {"against": against} | differences
    return methods | {"details": details}


@dataclass(frozen=True)
class Tuned:
    """What tuning found."""

    powers: dict[str, list[int]]
    """Powers of the learning rates tried per method, rising."""
    best: dict[Contender, int]
    """Each contender's best, which lies between others."""
    untuned: dict[str, str]
    """Name of a contender that has none → why."""


def tune(trainings: Trainings, num_rates: int, seeds: Sequence[int], console: Console) -> Tuned:
    """Each method at `num_rates` learning rates and beyond them, while its best is the lowest or the highest.

    A method that fails everywhere gets lower rates. One that has no best rate in the end does not hinder the others.

    Raises ComparisonError when no method has one.
    """
    contenders = list(trainings.contenders())
    lowest = -(num_rates // 2)
    powers = {c.label: list(range(lowest, lowest + num_rates)) for c in contenders}
    for widenings_left in reversed(range(MOST_WIDENINGS + 1)):
        trainings.train([Training(label, power, s) for label, row in powers.items() for power in row for s in seeds])
        best: dict[Contender, int] = {}
        untuned: dict[str, str] = {}
        beyond: dict[str, set[int]] = {}
        for c in contenders:
            row = powers[c.label]
            quality = {power: trainings.quality(c, power, seeds) for power in row}
            power = max(row, key=quality.__getitem__)
            if quality[power][0] == -inf:
                untuned[c.name] = f"trainings fail at every learning rate, {_rates(trainings, c, row)}"
                beyond.setdefault(c.label, set()).add(row[0] - 1)
            elif power in (row[0], row[-1]):
                untuned[c.name] = f"the best learning rate lies at the edge of those tried, {_rates(trainings, c, row)}"
                beyond.setdefault(c.label, set()).add(row[0] - 1 if power == row[0] else row[-1] + 1)
            else:
                best[c] = power
        if not beyond or not widenings_left:
            break
        for label, more in beyond.items():
            powers[label] = sorted({*powers[label], *more})
        for name, why in untuned.items():
            print_plain(console, f"{name}: {why}; one more.")
    for name, why in untuned.items():
        print_plain(console, f"{name} is left out: {why}")
    if not best:
        raise ComparisonError("no method is tuned: " + "; ".join(f"{name}: {why}" for name, why in untuned.items()))
    return Tuned(powers, best, untuned)


def _rates(trainings: Trainings, contender: Contender, powers: Sequence[int]) -> str:
    return ", ".join(f"{trainings.rate(contender.label, power):g}" for power in powers)


def _tests(
    trainings: Trainings, best: Mapping[Contender, int], seeds: Sequence[int], device: torch.device, console: Console
) -> tuple[Tests, dict[str, str]]:
    """Test figures, and for every adapter that was refused (damaged, or not the same in plain PEFT) the reason."""
    store, assets, workers = trainings.store, AssetCache(device), Workers(0, 1, device)
    tests: Tests = {}
    refused: dict[str, str] = {}
    for contender, power in best.items():
        tests[contender] = {}
        for seed in seeds:
            found = trainings.candidate(contender, power, seed)
            if found is None or found[1].adapter_path is None:
                continue
            record, candidate = found
            path = store.trial_path(record.key, str(candidate.adapter_path), TEST_FILE)
            if not store.storage.exists(path):
                trial = recorded_trial(record)  # what it trained on: a branch on the Hub may have moved since
                try:
                    measure_test(trial, record.key, candidate.name, store=store, assets=assets, workers=workers)
                except (StoredAdapterError, VerificationError) as error:
                    name = f"{contender.name}, seed {seed}"
                    refused[name] = str(error)
                    print_plain(console, f"{name}: refused, in no mean: {error}")
                    continue
            value = read_test_figures(store, path)[trainings.objectives.quality].value
            tests[contender][seed] = (candidate, value)
    return tests, refused


def _differences(tests: Tests, against: str) -> dict[str, tuple[float, float | None, int]]:
    """Each other contender's figure minus that of `against` at the same seed: mean, standard error, seeds."""
    reference = next((tested for contender, tested in tests.items() if contender.name == against), {})
    found = {}
    for contender, tested in tests.items():
        differences = [tested[seed][1] - reference[seed][1] for seed in tested if seed in reference]
        if contender.name != against and differences:
            found[contender.name] = over_seeds(differences)
    return found


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
        mean, stderr, count = over_seeds([value for _, value in tested.values()])
        params = round(statistics.fmean(candidate.adapter_params for candidate, _ in tested.values()))
        spread = "" if stderr is None else f"{stderr:.4f}"
        failed = str(num_seeds - count) if count < num_seeds else ""
        row = [contender.name, f"{params:,}", f"{mean:.4f}", spread, str(count), failed, rate]
        if contender.name in differences:
            mean, stderr, _ = differences[contender.name]
            row.append(f"{mean:+.4f}" + ("" if stderr is None else f" ± {stderr:.4f}"))
        table.add_row(*row)
    return table
