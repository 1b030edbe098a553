"""How an adapter is pruned: the settings that the Pruner takes, names as in the registry."""

from dataclasses import dataclass
from typing import Literal

from prunedlora.adapters.layers import Side
from prunedlora.pruning.ladder import Ladder
from prunedlora.pruning.target import Target, targets_of


@dataclass(frozen=True)
class PruningSettings:
    """None is off: what has no effect beside the others has no value."""

    basis: Literal["raw", "svd", "whitened"]
    """raw: components as they are trained. Others: an event first turns to the principal components of the product,
    by its norm or by the loss, and drops the smallest."""
    criterion: str | None
    """What is removed, in the raw basis."""
    curvature: str | None
    """Scored by (if the criterion does) and compensated with; raw basis."""
    ema_decay: float | None
    """Decay per step of averaged statistics, in [0, 1); it says how early they are collected (observed_steps.py)."""
    damping: float | None
    """Added to the diagonal of curvatures and moments, as a share of its mean."""
    recovery_strength: float | None
    """Share of the closed-form compensation that the kept components get, in [0, 1]; raw basis."""
    recovery_side: Literal["A", "B", "both"] | None
    """The factor that is scored and compensated."""
    gradient_cap: float | None
    """The form with the gradient, its step bounded to this share of the weights; None: the zero-gradient form."""
    moments: Literal["mapped", "reset"] | None
    """The optimizer's moments under a change of basis."""
    target_sparsity: float | None
    """Share of the components (or parameters, where the allocation counts those) to remove; exactly one of this,
    `target_rank` and `ladder` is given."""
    target_rank: int | None
    """Mean rank at the end, or the rank of layers with as many parameters."""
    rate_growth: float
    """Power of (initial rank / mean rank of the layers that have any) that the learning rate is multiplied by."""
    schedule: str | None
    """Towards one target; None with a ladder, as the three that follow."""
    begin: float | None
    """Progress at which removal begins."""
    end: float | None
    """Progress at which the target is reached; None for a schedule that does all at `begin`."""
    every_steps: int | None
    """Optimizer steps from one event to the next."""
    allocation: str
    min_rank: int
    """Fewest components that a layer keeps."""
    round_to: int | str | None
    """Multiple that ranks keep to, or "served_slot"."""
    ladder: Ladder | None = None
    """Falling sizes that the training passes, in the place of a schedule and its target."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """The factors that are scored or compensated."""
        if self.recovery_side is None:
            return ()
        return ("A", "B") if self.recovery_side == "both" else (self.recovery_side,)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is to be left, in order: at each rung, or at the end of the schedule.

        Raises ValueError unless exactly one of target_sparsity, target_rank and ladder is given.
        """
        return targets_of(self.ladder, self.target_sparsity, self.target_rank, self.min_rank, self.round_to)

    @property
    def block(self) -> int:
        """Components that a layer loses at once."""
        return self.round_to if isinstance(self.round_to, int) else 1
