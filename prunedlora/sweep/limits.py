"""A sweep's constraints beside what its suggestions are planned to leave: whether any can meet them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunedlora.config.corners import corners
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import trial_with
from prunedlora.limit_text import amount_text, limit_text
from prunedlora.planned_size import PlannedSize, Planner, is_too_large


class LimitsError(ValueError):
    """Constraints that no suggestion can meet; the message has the least that any comes to."""


@dataclass(frozen=True)
class Limits:
    """How the corners of a space, and values between them, stand to the constraints."""

    constraints: Mapping[str, float]
    num_looked_at: int
    num_fitting: int
    """That can meet them, by what is known of sizes."""
    num_unknown: int
    """Of which nothing is known, counted among those that can."""

    @property
    def all_fit(self) -> bool:
        """Whether nothing that was looked at is too large."""
        return self.num_fitting == self.num_looked_at

    @property
    def line(self) -> str:
        """For a plan."""
        unknown = f"; of {self.num_unknown} nothing is known before training" if self.num_unknown else ""
        share = self.num_fitting / self.num_looked_at
        return (
            f"Limits: {limit_text(self.constraints)}; {self.num_fitting:,} of {self.num_looked_at:,} corners of the "
            f"space ({share:.0%}) can meet them{unknown}{'' if self.all_fit else '; the others are not trained'}"
        )


def limits_of(config: SweepConfig, planner: Planner) -> Limits | None:
    """None without constraints, or where nothing is searched. Raises LimitsError where no suggestion can meet them."""
    if not config.constraints or config.num_trials == 0:
        return None
    least: dict[str, tuple[float, str]] = {}
    looked_at = fitting = unknown = 0
    for values in corners(config.space, inner=True):
        planned = planner(trial_with(config.trial, values))
        looked_at += 1
        unknown += not planned
        fitting += not is_too_large(planned, config.constraints)
        for axis in config.constraints if planned else ():
            size = _least(planned, axis)
            if axis not in least or size < least[axis][0]:
                least[axis] = size, ", ".join(f"{path}={value}" for path, value in values.items())
    if not fitting:
        sizes = "; ".join(
            f"{axis}: at least {amount_text(size)} (space at {where})" for axis, (size, where) in least.items()
        )
        raise LimitsError(
            f"constraints {limit_text(config.constraints)}: no suggestion of the space has a candidate that can meet "
            f"{'it' if len(least) == 1 else 'all of them at once'}. {sizes}. Raise the limits, or let the space have "
            "smaller sizes"
        )
    return Limits(config.constraints, looked_at, fitting, unknown)


def _least(planned: Sequence[PlannedSize], axis: str) -> float:
    return min(one.bounds[axis][0] for one in planned)
