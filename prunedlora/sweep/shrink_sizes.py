"""The sizes that an adapter is to shrink to: given, or halves as far as its layers allow; by its ranks alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from prunedlora.adapters.existing import told
from prunedlora.config.schedule import SizesConfig
from prunedlora.pruning.allocation import Allocation
from prunedlora.pruning.goals import falling_goals
from prunedlora.pruning.target import Goal, Start, Target
from prunedlora.registry import lookup
from prunedlora.sweep.shrink_original import Original, ShrinkError

HALVES = (0.5, 0.25, 0.125, 0.0625, 0.03125)
"""Shares of its parameters, where no sizes are given."""
SHARED = "global_per_parameter"
"""The allocation by which an adapter shrinks: what takes the most parameters for the least of the update goes."""
EQUAL = "uniform"


@dataclass(frozen=True)
class ChosenSizes:
    """What an adapter is to shrink to."""

    config: SizesConfig
    left_out: str | None
    """Of the halves, those that its layers do not come to, and why; None: there are none, or sizes were given."""


def sizes_for(original: Original, *, kept: str | None, mean_rank: str | None, parameters: str | None) -> ChosenSizes:
    """The sizes of one of the options, each a list with commas; without any the halves that its layers come to.

    Raises ShrinkError for what is no list of numbers, or of numbers that fall, for several options, and for a size
    that the adapter is not above or cannot come to.
    """
    options = {"--kept": kept, "--mean-rank": mean_rank, "--parameters": parameters}
    given = {option: text for option, text in options.items() if text is not None}
    if len(given) > 1:
        raise ShrinkError(f"{' and '.join(given)} both say the sizes: give one of them")
    start = original.start
    if not given:
        possible, why = _possible_halves(start)
        if not possible:
            raise ShrinkError(
                f"{told(original.existing)}: there is nothing to remove: {original.words}, of which no half can be left"
            )
        return ChosenSizes(SizesConfig(kept=possible), why)
    [(option, text)] = given.items()
    unit = option.removeprefix("--").replace("-", "_")
    try:
        sizes = SizesConfig.model_validate({unit: _numbers(option, text, whole=unit == "parameters")})
    except ValidationError as error:
        problem = error.errors()[0]
        raise ShrinkError(f"{option} {text}: {problem['msg'].removeprefix('Value error, ')}") from error
    check_sizes(original, sizes, f"{option} {text}")
    return ChosenSizes(sizes, None)


def check_sizes(original: Original, sizes: SizesConfig, said: str) -> None:
    """Raises ShrinkError for a size that the adapter is not above, or cannot come to; `said`: how they were given."""
    try:
        falling_goals(_rule(SHARED).goal, original.start, targets(sizes))
    except ValueError as error:
        raise ShrinkError(f"{said}: {error} ({told(original.existing)}: {original.words})") from error


def targets(sizes: SizesConfig) -> list[Target]:
    """The sizes, as allocations know them, where every layer may go."""
    return [Target(sizes.unit, size, 0) for size in sizes.sizes]


def most_parameters(original: Original, sizes: SizesConfig) -> list[int]:
    """What is left at each size at most, of sizes that can be: a whole component may go for less."""
    start = original.start
    return [start.size("parameters") - _goal(start, target).num for target in targets(sizes)]


def are_whole_ranks(original: Original, sizes: SizesConfig) -> bool:
    """Whether each size is one whole rank of every layer."""
    start = original.start
    if sizes.unit == "mean_rank":
        return all(float(size).is_integer() for size in sizes.sizes)
    if len({rank for rank, _ in start.layers}) > 1:
        return False
    of_one = start.size_of_rank_1("parameters")
    left = [size * start.max_rank if sizes.unit == "kept" else size / of_one for size in sizes.sizes]
    return all(float(rank).is_integer() for rank in left)


def _possible_halves(start: Start) -> tuple[list[float], str | None]:
    """Each half that can be and that is another than the one before it; what is said of the others."""
    for index, size in enumerate(HALVES):
        try:
            falling_goals(_rule(SHARED).goal, start, targets(SizesConfig(kept=list(HALVES[: index + 1]))))
        except ValueError as error:
            left_out = ", ".join(f"{size:g}" for size in HALVES[index:])
            return list(HALVES[:index]), f"kept {left_out}: {error}"
    return list(HALVES), None


def _goal(start: Start, target: Target) -> Goal:
    goal = _rule(SHARED).goal(start, target)
    assert goal.unit == "parameters"
    return goal


def _rule(name: str) -> Allocation:
    rule: Allocation = lookup("allocation", name)
    return rule


def _numbers(option: str, text: str, *, whole: bool) -> Sequence[float]:
    kind = int if whole else float
    try:
        return [kind(part.strip().replace("_", "")) for part in text.split(",")]
    except ValueError as error:
        numbers = "whole numbers, as 50000,20000" if whole else "numbers, as .5,.25"
        raise ShrinkError(f"{option} {text!r} is no list of {numbers}") from error
