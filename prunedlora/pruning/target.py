"""Target: a size that pruning is to reach, and Start: what it finds. No torch here: the configuration checks them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol, Self

from prunedlora.pruning.ladder import Ladder, SizeUnit

SERVED_SLOT = "served_slot"

Unit = Literal["components", "parameters"]
"""What is counted."""


class MinRankError(ValueError):
    """A target below what `min_rank` leaves."""


class Layer(Protocol):
    """What of a layer counts here."""

    @property
    def rank(self) -> int: ...
    @property
    def width(self) -> int: ...


@dataclass(frozen=True)
class Start:
    """The layers as pruning finds them: (rank, parameters of one component) → how many such layers there are."""

    layers: Mapping[tuple[int, int], int]

    @classmethod
    def of(cls, ranks: Iterable[int], widths: Iterable[int]) -> Self:
        """Of one rank and one width for each layer."""
        return cls(Counter(zip(ranks, widths, strict=True)))

    @classmethod
    def of_layers(cls, layers: Iterable[Layer]) -> Self:
        """Of layers as they stand now."""
        return cls(Counter((layer.rank, layer.width) for layer in layers))

    def of_rank(self, rank: int) -> Self:
        """Of layers as many and as wide, all of one rank."""
        widths: Counter[tuple[int, int]] = Counter()
        for (_, width), num in self.layers.items():
            widths[rank, width] += num
        return type(self)(widths)

    @property
    def max_rank(self) -> int:
        return max(rank for rank, _ in self.layers)

    @property
    def words(self) -> str:
        """The ranks, for a message: "rank 8" or "ranks 4 to 8"."""
        least = min(rank for rank, _ in self.layers)
        return f"rank {least}" if least == self.max_rank else f"ranks {least} to {self.max_rank}"

    def size(self, unit: Unit, most_rank: int | None = None) -> int:
        """What all layers have, each cut to `most_rank`."""
        return sum(
            num * (rank if most_rank is None else min(rank, most_rank)) * (width if unit == "parameters" else 1)
            for (rank, width), num in self.layers.items()
        )

    def size_of_rank_1(self, unit: Unit) -> int:
        """What one component of every layer is together."""
        return sum(num * (width if unit == "parameters" else 1) for (_, width), num in self.layers.items())


@dataclass(frozen=True)
class Target:
    """A size to reach, and what no layer may be."""

    kind: Literal["target_sparsity", "target_rank"] | SizeUnit
    """The setting that names it: share to remove, or mean rank, of a schedule; the unit of a ladder."""
    size: float
    min_rank: int
    """Fewest components that a layer keeps; one that starts with fewer keeps those."""
    round_to: int | str | None = None
    """Ranks are multiples of this at all times; "served_slot": the largest rank is one that a server offers."""
    rung: int | None = None
    """Its number on a ladder, from 1."""

    def __str__(self) -> str:
        size = str(int(self.size)) if self.size == int(self.size) else f"{self.size:g}"
        return f"{self.kind} {size}" if self.rung is None else f"rung {self.rung} of the ladder ({self.kind} {size})"

    @property
    def block(self) -> int:
        """Components that a layer loses at once."""
        return self.round_to if isinstance(self.round_to, int) else 1

    @property
    def floor(self) -> int:
        """Rank that no layer falls below: `min_rank` in whole blocks."""
        return math.ceil(self.min_rank / self.block) * self.block

    def share_of(self, amount: int) -> int:
        """⌊size · amount⌋, of the size as it is written: .29 of 100 is 29."""
        return math.floor(Fraction(str(self.size)) * amount)


@dataclass(frozen=True)
class Goal:
    """A target as an allocation works towards it: how much is gone when it is reached, counted from the start."""

    num: int
    """In `unit`; of allocation uniform in components of the layer that has the most."""
    unit: Unit
    most_rank: int | None = None
    """The rank that no layer may be above when it is reached, whatever is gone by then; None: any."""


def targets_of(
    ladder: Ladder | None,
    target_sparsity: float | None,
    target_rank: int | None,
    min_rank: int,
    round_to: int | str | None,
) -> tuple[Target, ...]:
    """What is to be left, in order: at each rung, or at the end of a schedule.

    Raises ValueError unless exactly one of the first three is given.
    """
    given = [value for value in (ladder, target_sparsity, target_rank) if value is not None]
    if len(given) != 1:
        beside = "" if ladder is None else " beside a ladder: none"
        raise ValueError(
            f"give exactly one of target_sparsity ({target_sparsity}) and target_rank ({target_rank}){beside}"
        )
    if ladder is not None:
        return tuple(
            Target(ladder.unit, size, min_rank, round_to, rung) for rung, size in enumerate(ladder.sizes, start=1)
        )
    if target_sparsity is not None:
        return (Target("target_sparsity", target_sparsity, min_rank, round_to),)
    assert target_rank is not None
    return (Target("target_rank", target_rank, min_rank, round_to),)
