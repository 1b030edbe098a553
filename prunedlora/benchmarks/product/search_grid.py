"""The grid of a sweep whose space lists all its values: places on it, their trials, and the nearest place to a
suggestion of a space that is laid over it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.config.corners import applies, ask_order
from prunedlora.config.space import Choice, IntRange, LogInt, LogUniform, SpaceEntry, Uniform, Value
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with

Place = tuple[int, ...]
"""Number of the value of every entry with a choice; 0 too where the entry does not apply."""


@dataclass(frozen=True)
class Grid:
    """All values of a space of choices."""

    base: TrialConfig
    space: Mapping[str, SpaceEntry]
    """Choices and fixed values."""

    @classmethod
    def of(cls, config: SweepConfig) -> "Grid":
        """Raises ValueError, naming the entry, for a space with an entry that lists no values."""
        for path, entry in config.space.items():
            if not isinstance(entry, Choice | Value):
                raise ValueError(f"space entry {path} has no list of values: a grid needs a choice")
        return cls(config.trial, config.space)

    @property
    def values(self) -> dict[str, list[Any]]:
        """Field path → its values, in the order of the file."""
        return {path: list(entry.choice) for path, entry in self.space.items() if isinstance(entry, Choice)}

    def places(self) -> list[Place]:
        """All of them, each once."""
        return sorted({self.place(values) for values in self._all()})

    def trial(self, place: Place) -> TrialConfig:
        """The configuration there."""
        chosen = {path: values[number] for (path, values), number in zip(self.values.items(), place, strict=True)}
        return trial_with(self.base, self._applied(chosen))

    def place(self, suggested: Mapping[str, Any]) -> Place:
        """The nearest to a suggestion: of numbers on the scale of `searched`, of other values the same one."""
        return tuple(
            nearest(values, suggested[path]) if path in suggested else 0 for path, values in self.values.items()
        )

    def suggestion(self, place: Place) -> dict[str, Any]:
        """Field path → value at a place, for every entry with a choice that applies there."""
        chosen = {path: values[number] for (path, values), number in zip(self.values.items(), place, strict=True)}
        applied = self._applied(chosen)
        return {path: value for path, value in applied.items() if path in chosen}

    def searched(self) -> dict[str, SpaceEntry]:
        """The space that a search sees: three or more rising numbers are a range (in the logarithm where none is 0),
        as one writes it who does not think of a grid."""
        return {path: _over(entry) if isinstance(entry, Choice) else entry for path, entry in self.space.items()}

    def _applied(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in ask_order(self.space):
            entry = self.space[path]
            if applies(entry, found):
                found[path] = entry.value if isinstance(entry, Value) else chosen[path]
        return found

    def _all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{}]
        for path in ask_order(self.space):
            entry = self.space[path]
            further = []
            for values in found:
                options = [entry.value] if isinstance(entry, Value) else entry.corners()
                further += [values | {path: option} for option in options] if applies(entry, values) else [values]
            found = further
        return found


def nearest(values: Sequence[Any], value: Any) -> int:
    """The number of the nearest of `values`, which are listed as a grid's are."""
    if not _is_range(values):
        return list(values).index(value)
    scale = math.log if values[0] > 0 else float
    return min(range(len(values)), key=lambda number: abs(scale(values[number]) - scale(value)))


def _is_range(values: Sequence[Any]) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and len(values) > 2 and list(values) == sorted(values) and values[0] >= 0


def _over(entry: Choice) -> SpaceEntry:
    values, when = entry.choice, entry.when
    if not _is_range(values):
        return entry
    low, high = values[0], values[-1]
    if all(isinstance(value, int) for value in values):
        return LogInt(log_int=(low, high), when=when) if low > 0 else IntRange(int=(low, high), when=when)
    return LogUniform(log_uniform=(low, high), when=when) if low > 0 else Uniform(uniform=(low, high), when=when)
