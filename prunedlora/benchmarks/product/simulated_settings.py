"""Scenarios in which statements on settings, over trainings with several seeds, are true or not: contrasts of means,
and what confirmation says at planned looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.benchmarks.product.simulated_decisions import Told
from prunedlora.benchmarks.product.simulated_sweep import lossy_sweep, right_or_wrong
from prunedlora.results.analysis.confidence import Floats, draw_means
from prunedlora.results.analysis.example_errors import example_errors, rare_cost
from prunedlora.results.analysis.looks import state
from prunedlora.results.analysis.over_seeds import mean_contrasts


@dataclass(frozen=True)
class Settings:
    """Settings with the mean and the deviation over seeds of their true accuracy; some trainings fail."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    num_seeds: tuple[int, ...]
    num_failed: tuple[int, ...] = ()
    """Of the trainings of each."""
    num_examples: int = 400
    falls: float = 0.0
    """By so much one training in ten of each but the first falls, from higher up, so that the means are the same."""

    def measured(
        self, num_draws: int, rng: np.random.Generator, looks: Sequence[int] = ()
    ) -> tuple[list[Floats], list[Floats], list[float]]:
        """By settings: (num_seeds,) what each training measured, NaN where it failed, and (num_draws, num_seeds)
        resampled minus measured; and what a rare example may cost, by look: it is no loss."""
        trainings = []
        for number, (mean, deviation) in enumerate(zip(self.means, self.deviations, strict=True)):
            count = self.num_seeds[number]
            fell = self.falls * (0.1 - (rng.random(count) < 0.1)) if number and self.falls else np.zeros(count)
            trainings.append(np.clip(mean + fell + deviation * rng.standard_normal(count), 0.0, 1.0))
        scores = right_or_wrong([own.tolist() for own in trainings], self.num_examples, rng)
        values = scores.mean(1)
        errors = draw_means(scores, None, rng, num_draws) - values
        ends = np.cumsum(self.num_seeds)[:-1]
        gains = np.split(values, ends)
        for own, failed in zip(gains, self.num_failed, strict=False):
            own[:failed] = np.nan
        return gains, np.split(errors, ends, axis=1), [0.0 for _ in looks]

    @property
    def resolution(self) -> float:
        return 1 / self.num_examples

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return [(first, second) for second in range(len(self.means)) for first in range(second)]

    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> dict[float, Told]:
        gains, errors, _ = self.measured(num_draws, rng)
        found: dict[float, Told] = {}
        for level in levels:
            contrasts = mean_contrasts(gains, errors, self.pairs, level, rng, resolution=self.resolution)
            true = [self.means[first] - self.means[second] for first, second in self.pairs]
            found[level] = {
                "bounds_hold": all(one.low <= mean <= one.high for one, mean in zip(contrasts, true, strict=True)),
                "says_different": any(one.low > 0 or one.high < 0 for one in contrasts),
            }
        return found


@dataclass(frozen=True)
class LossySettings:
    """Settings whose seeds all err alike, of which each but the first costs 10 nats more on one example in a hundred,
    of its own: 0.1 in the mean."""

    num_settings: int
    num_seeds: int
    num_examples: int = 400

    @property
    def means(self) -> tuple[float, ...]:
        return (0.0,) + (-0.1,) * (self.num_settings - 1)

    @property
    def resolution(self) -> float:
        return 0.0

    def measured(
        self, num_draws: int, rng: np.random.Generator, looks: Sequence[int] = ()
    ) -> tuple[list[Floats], list[Floats], list[float]]:
        """As of `Settings`."""
        count, seeds, n = self.num_settings, self.num_seeds, self.num_examples
        costs = 10.0 * (rng.random((count, n)) < 0.01)
        costs[0] = 0.0
        sums = rng.lognormal(-1.0, 1.0, n) + np.repeat(costs, seeds, axis=0)
        summary = lossy_sweep(sums + 0.05 * rng.standard_normal(sums.shape), np.ones(n), 0.0)
        owner = np.repeat(np.arange(count), seeds)
        found = example_errors(summary.store, summary.points, owner, summary.objectives, rng, num_draws)
        gains = -np.array([point.quality.value for point in summary.points])

        def rare(look: int) -> float:
            seen = np.flatnonzero(np.arange(len(owner)) % seeds < look).tolist()
            points, outcomes = [summary.points[c] for c in seen], [found.outcomes[c] for c in seen]
            return rare_cost(points, outcomes, owner[seen], summary.objectives)

        return np.split(gains, count), np.split(found.draws, count, axis=1), [rare(look) for look in looks]


@dataclass(frozen=True)
class Confirmed:
    """Fresh trainings of chosen adapters beside those of the best, which is the first of the settings."""

    settings: Settings | LossySettings
    looks: tuple[int, ...]
    within: float = 0.01

    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> dict[float, Told]:
        gains, errors, rare = self.settings.measured(num_draws, rng, self.looks)
        means = self.settings.means
        pairs = [(number, 0) for number in range(1, len(means))]
        found: dict[float, Told] = {}
        for level in levels:
            told = state(
                gains,
                errors,
                pairs,
                self.looks,
                self.within,
                level,
                rng,
                resolution=self.settings.resolution,
                rare=rare,
            )
            verdicts = [
                (one.verdict, means[number] - means[0] >= -self.within)
                for (number, _), one in zip(pairs, told, strict=True)
            ]
            found[level] = {
                "bounds_hold": not any(
                    (verdict, so) in (("confirmed", False), ("refuted", True)) for verdict, so in verdicts
                ),
                "says_something": any(verdict in ("confirmed", "refuted") for verdict, _ in verdicts),
            }
        return found


def _equal(num: int, deviation: float, num_seeds: int) -> Settings:
    return Settings((0.9,) * num, (deviation,) * num, (num_seeds,) * num)


SETTINGS: Mapping[str, Settings | Confirmed] = {
    "settings, equal, sd .01, 3 seeds": _equal(4, 0.01, 3),
    "settings, equal, sd .02, 3 seeds": _equal(4, 0.02, 3),
    "settings, equal, sd .02, 2 seeds": _equal(4, 0.02, 2),
    "settings, equal, seeds differ by nothing": _equal(4, 0.0, 3),
    "settings, equal, 5 seeds": _equal(4, 0.02, 5),
    "settings, 3 seeds and some of one": Settings((0.9,) * 6, (0.015,) * 6, (3, 3, 1, 1, 3, 1)),
    "settings, six steady, one restless": Settings((0.9,) * 7, (0.001,) * 6 + (0.03,), (3,) * 7),
    "settings, 2 of 3 diverged": Settings((0.9, 0.85, 0.9), (0.01,) * 3, (3,) * 3, (0, 2, 0)),
    "confirm, two just too bad": Confirmed(Settings((0.9, 0.8899, 0.8899), (0.01,) * 3, (8,) * 3), (3, 5, 8)),
    "confirm, at the margin": Confirmed(Settings((0.9, 0.89, 0.89), (0.01,) * 3, (8,) * 3), (3, 5, 8)),
    "confirm, restless": Confirmed(Settings((0.9, 0.8899), (0.005, 0.03), (8,) * 2), (3, 5, 8)),
    "confirm, equal and steady": Confirmed(Settings((0.9, 0.9), (0.002,) * 2, (8,) * 2, (), 2000), (3, 5, 8)),
    "confirm, loss, one in a hundred, 1 rival": Confirmed(LossySettings(2, 8), (3, 5, 8), 0.1 - 1e-4),
    "confirm, loss, one in a hundred, 4 rivals": Confirmed(LossySettings(5, 8), (3, 5, 8), 0.1 - 1e-4),
}
BEYOND_THE_CONDITION: Mapping[str, Settings | Confirmed] = {
    "settings, one training in ten falls by .3, 3 seeds": Settings((0.93, 0.93), (0.002,) * 2, (3, 3), falls=0.3),
    "confirm, one training in ten falls by .3": Confirmed(
        Settings((0.93, 0.9199), (0.002,) * 2, (8,) * 2, falls=0.3), (3, 5, 8)
    ),
}
"""Seeds do not vary normally."""
