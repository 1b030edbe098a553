"""Target: what pruning is to leave. No torch here: the configuration checks it."""

from dataclasses import dataclass

SERVED_SLOT = "served_slot"


class MinRankError(ValueError):
    """A target below what `min_rank` leaves."""


@dataclass(frozen=True)
class Target:
    """What is to be left at the end, of layers that all start at `initial_rank`."""

    initial_rank: int
    target_sparsity: float | None
    """Share of the components (or parameters, where the allocation counts those) to remove; exactly one of this and
    `target_rank` is given."""
    target_rank: int | None
    """Mean rank at the end, or the rank of layers with as many parameters."""
    min_rank: int
    """Fewest components that a layer keeps."""
    round_to: int | str | None = None
    """Ranks are multiples of this at all times; "served_slot": the largest rank is one that a server offers."""

    @property
    def block(self) -> int:
        """Components that a layer loses at once."""
        return self.round_to if isinstance(self.round_to, int) else 1
