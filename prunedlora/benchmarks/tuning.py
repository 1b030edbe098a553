"""Learning rates of what is compared: a factor 2 apart, widened until the best lies between others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, TypeVar

from rich.console import Console

from prunedlora.benchmarks.comparison import ComparisonError, Training, Trainings
from prunedlora.plain_print import print_plain

MOST_WIDENINGS = 6
"""How often learning rates may be widened: what lies further off is no matter of tuning."""


class Tunable(Protocol):
    """What has one learning rate."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The methods that are trained at it; several of the same rate of their own."""


C = TypeVar("C", bound=Tunable)
Quality = Callable[[C, int, Sequence[int]], tuple[float, float]]
"""Of what is tuned, at a power and over seeds, on the validation split: more is better; −inf where one failed."""


@dataclass(frozen=True)
class Tuned(Generic[C]):
    """What tuning found."""

    powers: dict[tuple[str, ...], list[int]]
    """Powers of the learning rates tried, rising, by the labels that are trained at them."""
    best: dict[C, int]
    """Each one's best, which lies between others; where a single rate was asked for, that one."""
    untuned: dict[str, str]
    """Name of what has none → why."""


def tune(
    trainings: Trainings,
    contenders: Sequence[C],
    quality: Quality[C],
    num_rates: int,
    seeds: Sequence[int],
    console: Console,
) -> Tuned[C]:
    """Each contender at `num_rates` learning rates and beyond them, while its best is the lowest or the highest.

    One that fails everywhere gets lower rates. One that has no best rate in the end does not hinder the others. With
    `num_rates` 1 nothing is trained or tuned: every contender has its own rate.

    Raises ComparisonError when none has a best rate.
    """
    if num_rates == 1:
        return Tuned({c.labels: [] for c in contenders}, dict.fromkeys(contenders, 0), {})
    lowest = -(num_rates // 2)
    powers = {c.labels: list(range(lowest, lowest + num_rates)) for c in contenders}
    for widenings_left in reversed(range(MOST_WIDENINGS + 1)):
        wanted = ((label, power) for labels, row in powers.items() for label in labels for power in row)
        trainings.train([Training(label, power, seed) for label, power in wanted for seed in seeds])
        best: dict[C, int] = {}
        untuned: dict[str, str] = {}
        beyond: dict[tuple[str, ...], set[int]] = {}
        for c in contenders:
            row = powers[c.labels]
            found = {power: quality(c, power, seeds) for power in row}
            power = max(row, key=found.__getitem__)
            rates = ", ".join(f"{trainings.rate(c.labels[0], tried):g}" for tried in row)
            if found[power][0] == -inf:
                untuned[c.name] = f"trainings fail at every learning rate, {rates}"
                beyond.setdefault(c.labels, set()).add(row[0] - 1)
            elif power in (row[0], row[-1]):
                untuned[c.name] = f"the best learning rate lies at the edge of those tried, {rates}"
                beyond.setdefault(c.labels, set()).add(row[0] - 1 if power == row[0] else row[-1] + 1)
            else:
                best[c] = power
        if not beyond or not widenings_left:
            break
        for labels, more in beyond.items():
            powers[labels] = sorted({*powers[labels], *more})
        for name, why in untuned.items():
            print_plain(console, f"{name}: {why}; one more.")
    for name, why in untuned.items():
        print_plain(console, f"{name} is left out: {why}")
    if not best:
        raise ComparisonError("no method is tuned: " + "; ".join(f"{name}: {why}" for name, why in untuned.items()))
    return Tuned(powers, best, untuned)


def tuning_figures(
    trainings: Trainings, contender: C, quality: Quality[C], powers: Sequence[int], seeds: Sequence[int]
) -> dict[str, float | None]:
    """Learning rate → mean validation quality; None where a training failed."""
    found = {power: quality(contender, power, seeds)[0] for power in powers}
    gain = trainings.objectives.gain
    return {
        f"{trainings.rate(contender.labels[0], power):g}": None if value == -inf else gain(value)
        for power, value in found.items()
    }
