"""The original: the adapter that a training began with, as it came, and how what was made of it stands beside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunedlora.results.analysis.confidence import NUM_DRAWS
from prunedlora.results.analysis.example_errors import LOSS, data_of, example_errors
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.record import Figure, TrialRecord
from prunedlora.results.store import Store

START_FACT = "adapter"
"""Among a record's facts of the model: the adapter that it began with."""
LONGEST_NAME = 40
"""Characters of an adapter's name that a legend has room for."""


@dataclass(frozen=True)
class Beside:
    """A candidate beside the original of its training."""

    times_smaller: float | None
    """The original's size over its own, on the axis; None for an empty adapter."""
    difference: float
    """Its quality minus the original's, with the sign that it was measured with."""
    stderr: float | None
    """Of the difference; None where nothing is known of it. 0 where no example tells them apart by more than another
    does."""
    paired: bool
    """Whether both were compared on the same examples, one by one; otherwise their errors were taken for
    independent."""

    def difference_text(self, quality: str) -> str:
        """ "Δ −d ± e points, paired"; of a loss, in its own units. Without ± where no error is known."""
        return f"Δ {self.short_text(quality)}{'' if quality == LOSS else ' points'}, {self.how}"

    def short_text(self, quality: str) -> str:
        """The same for a table: "−d ± e"."""
        factor, digits = (1, 4) if quality == LOSS else (100, 1)
        text = f"{factor * self.difference:+.{digits}f}".replace("-", "−")
        text = text if text.strip("+−0.") else text[1:]
        return f"{text} ± {factor * self.stderr:.{digits}f}" if self.stderr else text

    @property
    def how(self) -> str:
        """How it was compared, and that no example tells them apart where that is so: its error is then unknown."""
        if not self.paired:
            return "not paired"
        return "paired, alike on every example" if self.stderr == self.difference == 0 else "paired"

    @property
    def times_text(self) -> str:
        return "" if self.times_smaller is None else f"{self.times_smaller:.3g}×"


def original_name(record: TrialRecord) -> str | None:
    """What the adapter that a training began with is called in its configuration; None for a fresh one."""
    adapter = record.config.get("adapter")
    name = adapter.get("start_from") if isinstance(adapter, dict) else None
    return name if isinstance(name, str) else None


def original_facts(record: TrialRecord) -> Mapping[str, Any]:
    """Which adapter a training began with, by content, as its record says; empty for a fresh one."""
    facts = record.environment.model.get(START_FACT)
    return facts if isinstance(facts, dict) and "start_from" in facts else {}


def short_name(name: str) -> str:
    """An adapter's name with its end, which tells most, where all of it is too long for a legend."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def originals(points: Sequence[Point]) -> dict[str, Point]:
    """Key of each training → the adapter that it began with, where that was measured as it came."""
    return {point.key: point for point in points if point.candidate.is_original and original_name(point.record)}


@dataclass(frozen=True)
class Origin:
    """An adapter that trainings began with."""

    name: str
    points: tuple[Point, ...]
    """As it came, in each of these trainings."""

    @property
    def label(self) -> str:
        return f"the adapter that it began with: {short_name(self.name)}"


def origins(began: Mapping[str, Point]) -> list[Origin]:
    """The originals of trainings by the adapter that they are, by name and content."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in began.values():
        name, content = original_name(point.record) or "", str(original_facts(point.record).get("sha256"))
        groups.setdefault((name, content), []).append(point)
    return [Origin(name, tuple(points)) for (name, _), points in sorted(groups.items())]


def beside_originals(store: Store, points: Sequence[Point], objectives: Objectives, seed: int = 0) -> dict[str, Beside]:
    """Name of each point that was made of an original → how it stands beside that.

    The error of a difference is that over NUM_DRAWS paired resamplings of the examples (example_errors.py). Reads the
    outcomes of those trainings alone. Raises RecordError for broken ones.
    """
    began = originals(points)
    groups: dict[str | None, list[Point]] = {}  # by data, so that the pairs of one are not told by those of another
    for point in points:
        if point.key in began:
            groups.setdefault(data_of(point), []).append(point)
    return {
        name: beside
        for members in groups.values()
        for name, beside in _beside(store, members, began, objectives, seed).items()
    }


def _beside(
    store: Store, points: Sequence[Point], began: Mapping[str, Point], objectives: Objectives, seed: int
) -> dict[str, Beside]:
    rng = np.random.default_rng(seed)
    errors = example_errors(store, points, np.arange(len(points)), objectives, rng, NUM_DRAWS)
    apart = {
        point.name for some in (errors.without_outcomes, errors.on_other_data, errors.without_error) for point in some
    }
    column = {point.name: number for number, point in enumerate(points)}
    found = {}
    for point in points:
        original = began[point.key]
        if point.name == original.name:
            continue
        stderr = float((errors.draws[:, column[point.name]] - errors.draws[:, column[original.name]]).std())
        found[point.name] = Beside(
            times_smaller=original.size / point.size if point.size > 0 else None,
            difference=point.quality.value - original.quality.value,
            stderr=stderr if np.isfinite(stderr) else None,
            paired=not {point.name, original.name} & apart,
        )
    return found


def works_no_better(figure: Figure, base: Figure, objectives: Objectives) -> bool:
    """Whether an adapter is not clearly better than the untrained base model: by no more than two standard errors of
    the difference, the errors taken for independent. A figure without an error counts as if it had none."""
    gain = objectives.gain(figure.value) - objectives.gain(base.value)
    return gain <= 2 * math.hypot(figure.stderr or 0.0, base.stderr or 0.0)
