"""What a comparison of ladders was to find, and has found. No torch here."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from prunedlora.benchmarks.comparison import ComparisonError
from prunedlora.benchmarks.ladder_answers import mean_gain
from prunedlora.benchmarks.ladder_variants import Variant
from prunedlora.results.analysis.pareto import Objectives
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
        """Raises ComparisonError for a name that no variant has, one that is compared with nothing, or one that two
        options have."""
        given: dict[str, str] = {}
        for option in ("ladder", "reference", "rival"):
            name = getattr(self, option)
            if name is None:
                continue
            if name not in names:
                raise ComparisonError(f"--{option} {name!r} is none of: {', '.join(map(repr, names))}")
            if self.ladder is None:
                raise ComparisonError(f"--{option} {name!r} is compared with --ladder, which is not given")
            if name in given:
                raise ComparisonError(
                    f"--{option} {name!r} is --{given[name]} too: these must be different variants, of "
                    f"{', '.join(map(repr, names))}"
                )
            given[name] = option

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
    planned: tuple[int, ...]
    """Sizes that it is to give, in parameters, falling."""
    tests: dict[int, dict[int, dict[str, Figure]]] = field(default_factory=dict)
    """Size in parameters → seed → figure; a seed whose training failed or whose adapter was refused is left out."""
    missing: dict[str, list[int]] = field(default_factory=dict)
    """Training and size → seeds without figures."""

    def quality(self, size: int, name: str) -> dict[int, float]:
        """By seed."""
        return {seed: figures[name].value for seed, figures in self.tests.get(size, {}).items()}

    def whole_seeds(self, sizes: Iterable[int]) -> set[int]:
        """Those with figures at each of these sizes."""
        by_size = [set(self.tests.get(size, ())) for size in sizes]
        return set.intersection(*by_size) if by_size else set()

    def areas(
        self, sizes: Collection[int], axis: tuple[int, int], base: float, objectives: Objectives
    ) -> dict[int, float]:
        """Seed that has figures at all of these sizes → mean gain over them, along the axis from the one size to twice
        the other (ladder_answers.mean_gain)."""
        at = {size: self.quality(size, objectives.quality) for size in sizes}
        return {
            seed: mean_gain({size: objectives.gain(of[seed]) for size, of in at.items()}, objectives.gain(base), *axis)
            for seed in sorted(self.whole_seeds(sizes))
        }


@dataclass(frozen=True)
class Results:
    plan: Plan
    tuning: dict[str, dict[str, float | None]]
    """Tuned group → learning rate → mean validation quality."""
    untuned: dict[str, str]
    refused: dict[str, str]
    base: float
    """Quality of the untrained base model, on the test split."""
    axis: tuple[int, int]
    """Smallest and largest size that the file's trainings are to give, those that were not chosen among them."""
    variants: dict[str, Measured]

    @property
    def sizes(self) -> list[int]:
        """Of all variants, falling."""
        return sorted({size for each in self.variants.values() for size in each.planned}, reverse=True)

    def areas(self, name: str, objectives: Objectives) -> dict[int, float]:
        """By seed that has all of the variant's sizes: over these, along the axis of the file."""
        measured = self.variants[name]
        return measured.areas(measured.planned, self.axis, self.base, objectives)
