"""Is stated confidence kept? Sweeps with known truth, simulated and judged by the code that judges real ones.

Every example has a difficulty that all trainings share, one that the seeds of a configuration share, and one of each
training, so that errors go together as they do in stores, if less: at an accuracy of 0.9 two trainings of one
configuration disagree on 9.7 % of the examples, and of two configurations on 12.2 % (banking77: 6.0 % and 6.2 %).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import norm

from prunedlora.results.analysis.confidence import Floats, draw_means, means_over_seeds, seed_noise, shortfall_bounds
from prunedlora.results.analysis.likely_front import on_front_share
from prunedlora.results.report.tables import plain_table

LEVELS = (0.8, 0.9, 0.95, 0.99)
SHARED, WITHIN_CONFIGURATION = 0.6, 0.15
"""Shares of an example's difficulty that all trainings, and all seeds of a configuration, have in common."""
EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
"""Of the classes in which probabilities are compared with what came true."""


@dataclass(frozen=True)
class Scenario:
    """Configurations by falling size, with their true accuracies."""

    accuracies: tuple[float, ...]
    num_seeds: tuple[int, ...]
    deviations: tuple[float, ...] | float = 0.0
    """Of the true accuracy over seeds; 0 with one seed: what is judged is the adapter itself."""
    num_examples: int = 400
    within: float = 0.04


def _just_too_bad(best: float, count: int, within: float) -> tuple[float, ...]:
    return (best, *[best - within - 1e-4] * count)


SCENARIOS: Mapping[str, Scenario] = {
    "clear winner": Scenario((0.92, 0.84, 0.82, 0.8), (1,) * 4),
    "ties": Scenario((0.9,) * 6, (1,) * 6),
    "one just too bad": Scenario(_just_too_bad(0.9, 1, 0.04), (1,) * 2),
    "many just too bad": Scenario(_just_too_bad(0.9, 24, 0.04), (1,) * 25),
    "nearly perfect, few examples": Scenario(_just_too_bad(0.998, 8, 0.02), (1,) * 9, num_examples=200, within=0.02),
    "2 seeds": Scenario(_just_too_bad(0.9, 3, 0.04), (2,) * 4, 0.02),
    "2 seeds, all noise theirs": Scenario(_just_too_bad(0.9, 1, 0.04), (2,) * 2, 0.04, num_examples=2000),
    "3 seeds": Scenario(_just_too_bad(0.9, 3, 0.04), (3,) * 4, 0.02),
    "3 seeds that differ by nothing": Scenario(_just_too_bad(0.9, 3, 0.04), (3,) * 4, 0.0),
    "5 seeds": Scenario(_just_too_bad(0.9, 3, 0.04), (5,) * 4, 0.02),
    "3 seeds and some of one": Scenario(_just_too_bad(0.9, 5, 0.04), (3, 3, 1, 1, 3, 1), 0.015),
    "3 seeds, one restless": Scenario(_just_too_bad(0.9, 3, 0.04), (3,) * 4, (0.005, 0.005, 0.005, 0.03)),
}


@dataclass
class Tally:
    """What came of one scenario, by level."""

    num_sweeps: int = 0
    bounds_hold: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    """All bounds on how much worse than the truly best the others are."""
    advice_holds: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    """Nothing smaller is recommended than the best measured, or it is truly at most `within` worse than the truly best
    (not only than the best measured, of which alone it is said)."""
    says_smaller: dict[float, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    """Something smaller than the best measured is recommended."""

    def shares(self, level: float) -> dict[str, float]:
        return {
            name: getattr(self, name)[level] / self.num_sweeps
            for name in ("bounds_hold", "advice_holds", "says_smaller")
        }


def simulate(trainings: Sequence[Sequence[float]], num_examples: int, rng: np.random.Generator) -> Floats:
    """Right (1) or wrong (0), (P, num_examples), for trainings of these true accuracies, by configuration."""
    shared = np.sqrt(SHARED) * rng.standard_normal(num_examples)
    rows = []
    for accuracies in trainings:
        common = shared + np.sqrt(WITHIN_CONFIGURATION) * rng.standard_normal(num_examples)
        own = np.sqrt(1 - SHARED - WITHIN_CONFIGURATION) * rng.standard_normal((len(accuracies), num_examples))
        rows.append(common + own < norm.ppf(np.clip(accuracies, 0.0, 1.0))[:, None])
    return np.concatenate(rows).astype(np.float64)


def tally(scenario: Scenario, *, num_sweeps: int, num_draws: int, seed: int) -> Tally:
    """Judges simulated sweeps of one scenario."""
    rng = np.random.default_rng(seed)
    true = np.array(scenario.accuracies)
    deviations = np.broadcast_to(scenario.deviations, true.shape)
    owner = np.repeat(np.arange(len(true)), scenario.num_seeds)
    truly_best = int(true.argmax())
    result = Tally()
    for _ in range(num_sweeps):
        trainings = [
            accuracy + deviation * rng.standard_normal(count)
            for accuracy, deviation, count in zip(true, deviations, scenario.num_seeds, strict=True)
        ]
        scores = simulate(trainings, scenario.num_examples, rng)
        measured = scores.mean(1)
        errors = draw_means(scores, None, rng, num_draws) - measured
        seeds = seed_noise(measured, errors, owner, rng)
        means, errors = means_over_seeds(measured, owner), means_over_seeds(errors, owner)
        compare = partial(shortfall_bounds, means, errors, seeds=seeds, resolution=1 / scenario.num_examples, rng=rng)
        best = int(means.argmax())
        others = [index for index in range(len(true)) if index != truly_best]
        smaller = range(best + 1, len(true))
        result.num_sweeps += 1
        for level in LEVELS:
            upper = compare(truly_best, others, level).upper
            result.bounds_hold[level] += bool((upper >= true[truly_best] - true[others]).all())
            found = compare(best, smaller, level).upper
            proven = [index for index, bound in zip(smaller, found, strict=True) if bound <= scenario.within]
            result.says_smaller[level] += bool(proven)
            # The last is the smallest.
            result.advice_holds[level] += not proven or bool(true.max() - true[proven[-1]] <= scenario.within)
    return result


def front_calibration(
    scatter: float, *, num_candidates: int, num_examples: int, num_sweeps: int, num_draws: int, seed: int
) -> list[dict[str, float]]:
    """Probabilities of being on the front against how often that was so, by class of probability.

    True accuracies rise with the logarithm of the size by 0.1 in all, and scatter about that line by `scatter`.
    """
    rng = np.random.default_rng(seed)
    sizes = np.arange(num_candidates, dtype=np.float64)
    said, so = [], []
    for _ in range(num_sweeps):
        line = 0.8 + 0.1 * sizes / (num_candidates - 1)
        true = np.clip(line + scatter * rng.standard_normal(num_candidates), 0.02, 0.98)
        scores = simulate([[accuracy] for accuracy in true], num_examples, rng)
        said.append(on_front_share(draw_means(scores, None, rng, num_draws), sizes))
        so.append(on_front_share(true[None], sizes))
    probability, truth = np.concatenate(said), np.concatenate(so)
    interval = np.minimum(np.digitize(probability, EDGES[1:-1]), len(EDGES) - 2)
    return [
        {
            "from": EDGES[each],
            "to": EDGES[each + 1],
            "num_candidates": int((interval == each).sum()),
            "said": float(probability[interval == each].mean()),
            "so": float(truth[interval == each].mean()),
        }
        for each in range(len(EDGES) - 1)
        if (interval == each).any()
    ]


def print_coverage(*, num_sweeps: int, num_draws: int, seed: int, console: Console) -> dict[str, Any]:
    """All scenarios and the calibration of the front's probabilities, printed as tables."""
    document: dict[str, Any] = {"num_sweeps": num_sweeps, "num_draws": num_draws, "seed": seed, "scenarios": {}}
    table = plain_table("Kept, of what was stated: all bounds / the advice (how often it named a smaller one)")
    table.add_column("scenario", no_wrap=True)
    for level in LEVELS:
        table.add_column(f"{level:g}", justify="right", no_wrap=True)
    for name, scenario in SCENARIOS.items():
        result = tally(scenario, num_sweeps=num_sweeps, num_draws=num_draws, seed=seed)
        shares = {level: result.shares(level) for level in LEVELS}
        document["scenarios"][name] = {f"{level:g}": shares[level] for level in LEVELS}
        table.add_row(
            name,
            *(
                f"{s['bounds_hold']:.3f}/{s['advice_holds']:.3f} ({s['says_smaller']:.2f})"
                for s in (shares[level] for level in LEVELS)
            ),
        )
    console.print(table)
    document["front"] = {}
    for name, scatter in (("candidates that differ", 0.04), ("candidates that hardly differ", 0.005)):
        classes = front_calibration(
            scatter, num_candidates=40, num_examples=400, num_sweeps=num_sweeps, num_draws=num_draws, seed=seed
        )
        document["front"][name] = classes
        table = plain_table(f"On the front, {name}: said against so")
        for column in ("class", "candidates", "said", "so"):
            table.add_column(column, justify="right", no_wrap=True)
        for one in classes:
            cells = (
                f"{one['from']:g} – {one['to']:g}",
                f"{one['num_candidates']:,}",
                f"{one['said']:.3f}",
                f"{one['so']:.3f}",
            )
            table.add_row(*cells)
        console.print(table)
    return document
