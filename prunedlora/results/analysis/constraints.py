"""What may be asked of a recommendation: limits on the adapter, a margin, a confidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Self

from prunedlora.limit_text import amount_text
from prunedlora.results.analysis.example_errors import LOSS
from prunedlora.results.analysis.pareto import Objectives, Point

SLOT = "bytes of the served slot"


class RequestError(ValueError):
    """Something was asked that cannot be met; the message says what would be."""


@dataclass(frozen=True)
class Constraints:
    """What an adapter must not exceed; None: anything goes."""

    max_params: int | None = None
    max_bytes: int | None = None
    max_rank: int | None = None
    """Largest rank of a layer, as a server's slot has it."""
    max_slot_bytes: int | None = None
    """Of the served slot, in half precision."""
    limits: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The sweep's own: axis of size → the most that is of use."""

    @classmethod
    def of_sweep(cls, sweep: Mapping[str, Any]) -> Self:
        """Those that a sweep (as sweep.yaml has it) was made with; nothing is limited in earlier versions' stores."""
        return cls(limits={axis: float(limit) for axis, limit in sweep.get("constraints", {}).items()})

    @property
    def asked(self) -> dict[str, float]:
        """What was asked for beside the sweep's own limits: what → the most of it."""
        limits: dict[str, float | None] = {
            "parameters": self.max_params,
            "bytes": self.max_bytes,
            "largest rank": self.max_rank,
            SLOT: self.max_slot_bytes,
        }
        return {name: limit for name, limit in limits.items() if limit is not None}

    def with_limits(self, limits: Mapping[str, float]) -> Self:
        """These, and those of a sweep."""
        return replace(self, limits=limits)

    def excess(self, point: Point) -> dict[str, tuple[float, float]]:
        """Constraint → what the candidate has and the limit, where it is above. Raises ObjectiveError for a limit on
        the slot's bytes where they are not on record."""
        axes = {
            "parameters": "adapter_params",
            "bytes": "adapter_bytes",
            "largest rank": "max_rank",
            SLOT: "served_slot_bytes",
        }
        pairs = {name: (point.size_on(axes[name]), limit) for name, limit in self.asked.items()}
        pairs |= {axis: (point.size_on(axis), limit) for axis, limit in self.limits.items()}
        return {name: (value, limit) for name, (value, limit) in pairs.items() if value > limit}

    def allowed(self, points: Sequence[Point]) -> list[Point]:
        """Those that exceed nothing, in their order. Raises RequestError, naming the nearest, where none of them does,
        for points there are."""
        found = self.within(points)
        if points and not found:
            raise RequestError(self.nearest(points))
        return found

    def within(self, points: Sequence[Point]) -> list[Point]:
        """Those that exceed nothing, in their order, be there any or none."""
        return [point for point in points if not self.excess(point)]

    def nearest(self, points: Sequence[Point]) -> str:
        """Which of the points, that all exceed something, exceeds it by the smallest factor, and by which."""

        def worst(point: Point) -> float:
            return max(value / limit for value, limit in self.excess(point).values())

        point = min(points, key=lambda p: (worst(p), p.key, p.candidate.name))
        over = ", ".join(
            f"{name} {amount_text(value)}, {value / limit:.3g} times the limit of {amount_text(limit)}"
            for name, (value, limit) in self.excess(point).items()
        )
        return f"no candidate meets the constraints; {point.name} comes nearest: {over}"


def check_margin(objectives: Objectives, within: float) -> None:
    """Raises RequestError for a margin that is negative, infinite or no difference of shares."""
    if not (within >= 0 and isfinite(within)):
        raise RequestError(f"within must be at least 0 and finite, got {within:g}")
    if objectives.quality != LOSS and within >= 1:
        raise RequestError(
            f"within must be less than 1, a difference in {objectives.quality}, got {within:g}; one point is 1pt"
        )


def check_confidence(confidence: float) -> None:
    """Raises RequestError for a confidence that is no share between one half and one."""
    if not 0.5 <= confidence < 1:
        raise RequestError(f"confidence must lie in [0.5, 1), got {confidence:g}")
