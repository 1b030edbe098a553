"""The front: candidates that no other candidate beats in quality and size at once.

All candidates on record count, milestones included, however their trial ended: what a failed one has on record was
measured, written and checked before the failure, and the same configuration and seed give it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import moocore
import numpy as np

from prunedlora.results.analysis.served_size import recorded_sizes, served_sizes
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import BaseReference, Candidate, Figure, TrialRecord
from prunedlora.results.recorded_settings import FULL, method
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Refused
from prunedlora.sizes import SIZES


class ObjectivesError(ValueError):
    """Objectives other than one quality figure and one size to minimize."""


@dataclass(frozen=True)
class Objectives:
    """The two axes: a quality figure with its direction, and a size, which is always to be small."""

    quality: str
    maximize: bool
    size: str
    serve_on: tuple[str, ...] = ()
    """Names of the servers (servers.known.SERVERS) that must serve an adapter right, in the form that each needs, of
    which sizes are the largest; none: sizes are those that were trained."""

    @classmethod
    def of_sweep(cls, sweep: Mapping[str, Any]) -> "Objectives":
        """Those of a sweep as sweep.yaml has it. Raises ObjectivesError."""
        return cls.parse(sweep.get("objectives", {})).with_servers(sweep.get("serve_on", ()))

    @classmethod
    def parse(cls, objectives: Mapping[str, str]) -> "Objectives":
        """From `{"accuracy": "maximize", "adapter_params": "minimize"}` in either order. Raises ObjectivesError."""
        sizes = [name for name in objectives if name in SIZES]
        qualities = [name for name in objectives if name not in SIZES]
        if len(sizes) != 1 or len(qualities) != 1:
            raise ObjectivesError(f"objectives must be one quality figure and one size, got {dict(objectives)}")
        for name, direction in objectives.items():
            known = ("minimize",) if name in SIZES else ("maximize", "minimize")
            if direction not in known:
                raise ObjectivesError(f"objective {name!r}: {direction!r} is not {' or '.join(known)}")
        return cls(quality=qualities[0], maximize=objectives[qualities[0]] == "maximize", size=sizes[0])

    def with_size(self, size: str) -> "Objectives":
        """The same quality against another size. Raises ObjectivesError for what is none."""
        if size not in SIZES:
            raise ObjectivesError(f"{size!r} is no size; known: {', '.join(SIZES)}")
        return replace(self, size=size)

    def with_servers(self, serve_on: Iterable[str]) -> "Objectives":
        """The same for these servers. Raises ObjectivesError for one that is not known."""
        names = tuple(serve_on)
        if unknown := [name for name in names if name not in SERVERS]:
            raise ObjectivesError(f"{unknown[0]!r} is no server that there is a rule for; known: {', '.join(SERVERS)}")
        return replace(self, serve_on=tuple(name for name in SERVERS if name in names))

    def as_dict(self) -> dict[str, str]:
        return {self.quality: "maximize" if self.maximize else "minimize", self.size: "minimize"}

    def gain(self, quality: float) -> float:
        """The quality with its sign such that more is better."""
        return quality if self.maximize else -quality


@dataclass(frozen=True)
class Point:
    """One candidate on the two axes."""

    record: TrialRecord
    candidate: Candidate
    quality: Figure
    size: float
    sizes: Mapping[str, float] | None = field(default=None, repr=False, compare=False)
    """Axis → size as the servers of the objectives need it; None: as it was trained."""

    def __repr__(self) -> str:
        """Its name and figures: record and candidate would be pages."""
        return f"<Point {self.name}: {figure_text(self.quality)}, size {self.size:g}>"

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def step(self) -> int:
        return self.candidate.step

    @property
    def name(self) -> str:
        """`<key>@<step>`, as `prunedlora export` takes it."""
        return f"{self.key}@{self.candidate.name}"

    @property
    def among_equals(self) -> tuple[bool, int, str, str]:
        """The one rule for points of equal quality and size, the first of which stands for all: what came to its end
        before half-trained milestones, then fewer steps, then by key and name."""
        return self.candidate.is_half_trained, self.step, self.key, self.candidate.name

    @property
    def has_file(self) -> bool:
        """Whether there is an adapter to ship."""
        return self.candidate.adapter_path is not None

    def size_on(self, axis: str) -> float:
        """Where it stands on an axis of sizes, infinitely far where no served slot holds it. Raises ObjectiveError
        where that size is not on record."""
        sizes = recorded_sizes(self.candidate) if self.sizes is None else self.sizes
        return sizes[axis] if axis in sizes else self.candidate.objective(axis)


@dataclass(frozen=True)
class Reference:
    """The point that the hypervolume is measured from, and how it was chosen."""

    quality: float
    size: float
    rule: str


def points(records: Iterable[TrialRecord], objectives: Objectives) -> list[Point]:
    """Every candidate that is an adapter, of failed trials too, sorted by key and step.

    Full fine-tuning is none: it is the reference that `best_full` finds. What one of the objectives' servers serves
    right in no form is left out. A candidate that no served slot holds has no position on an axis of served slots and
    is left out there; so is one on the axis of a figure that was not measured, its loss having told that it is not on
    the front, or lm-evaluation-harness having failed (`Candidate.is_measured`).
    Raises ObjectiveError when any other candidate lacks the quality figure.
    """
    return [
        point
        for record in sorted(records, key=lambda record: record.key)
        if method(record) != FULL
        for candidate in record.candidates
        if candidate.is_measured([objectives.quality]) and (point := _point(record, candidate, objectives)) is not None
    ]


def _point(record: TrialRecord, candidate: Candidate, objectives: Objectives) -> Point | None:
    """None where it has no position on the axis of sizes."""
    sizes = served_sizes(record, candidate, objectives.serve_on)
    if isinstance(sizes, Refused):
        return None
    size = sizes[objectives.size] if objectives.size in sizes else candidate.objective(objectives.size)
    return None if size == inf else Point(record, candidate, candidate.figure(objectives.quality), size, sizes)


def best_full(records: Iterable[TrialRecord], objectives: Objectives) -> Figure | None:
    """The best quality that full fine-tuning reached; None where there was none."""
    figures = [
        candidate.figure(objectives.quality)
        for record in records
        if method(record) == FULL
        for candidate in record.candidates
        if candidate.is_measured([objectives.quality])
    ]
    return max(figures, key=lambda figure: objectives.gain(figure.value), default=None)


def front(points: Sequence[Point], objectives: Objectives) -> list[Point]:
    """The non-dominated points, smallest first. Of points equal in both, one stands for all (`among_equals`)."""
    ordered = sorted(points, key=lambda point: point.among_equals)
    if not ordered:
        return []
    kept = moocore.is_nondominated(_values(ordered), maximise=[objectives.maximize, False], keep_weakly=False)
    return sorted((point for point, keep in zip(ordered, kept, strict=True) if keep), key=lambda point: point.size)


def reference(points: Sequence[Point], objectives: Objectives, base: BaseReference | None) -> Reference:
    """The reference point of a sweep, the same whenever the same points are there.

    Quality: 0 where more is better (of matthews that is chance, and candidates below it add no area); otherwise the
    base model's value, or the worst candidate's when the base model was not evaluated. Size: 1.1 times the largest
    candidate's, so that the largest counts too.
    """
    if objectives.maximize:
        quality, rule = 0.0, f"{objectives.quality} 0"
    elif base is not None and objectives.quality in base.figures:
        quality, rule = base.figures[objectives.quality].value, f"{objectives.quality} of the base model"
    else:
        quality = max((point.quality.value for point in points), default=0.0)
        rule = f"worst {objectives.quality} of all candidates"
    largest = max((point.size for point in points), default=0.0)
    # At least 1, so that a sweep whose adapters are all empty still spans an area. In tenths: 1.1 is no binary number.
    size = max(largest * 11 / 10, 1.0)
    return Reference(quality=quality, size=size, rule=f"{rule}; {objectives.size} 1.1 times the largest candidate's")


def hypervolume(points: Sequence[Point], objectives: Objectives, reference: Reference) -> float:
    """Area that the points dominate up to the reference, in units of quality × size; points beyond it add nothing."""
    if not points:
        return 0.0
    return float(
        moocore.hypervolume(
            _values(points), ref=[reference.quality, reference.size], maximise=[objectives.maximize, False]
        )
    )


def _values(points: Sequence[Point]) -> np.ndarray:
    """(num_points, 2): quality, size."""
    return np.array([[point.quality.value, point.size] for point in points], dtype=np.float64)
