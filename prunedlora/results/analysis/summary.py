"""Summary: what a store says, worked out once for the terminal, the report and the files."""

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.results.analysis.budget import recommend
from prunedlora.results.analysis.pareto import (
    Objectives,
    Point,
    Reference,
    best_full,
    front,
    hypervolume,
    points,
    reference,
)
from prunedlora.results.ask import Ask
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import BaseReference, Figure, TrialRecord
from prunedlora.results.store import Store


@dataclass(frozen=True)
class Summary:
    store: Store
    sweep: dict[str, Any]
    """The sweep as sweep.yaml has it."""
    objectives: Objectives
    records: list[TrialRecord]
    points: list[Point]
    """All candidates, by key and step."""
    front: list[Point]
    """Smallest first."""
    reference: Reference
    hypervolume: float
    base: BaseReference | None
    full: Figure | None
    """The best that full fine-tuning reached; None where there was none."""
    within: float
    recommended: Point | None
    exported: ExportedAdapter | None
    """Test figures and path of the recommended adapter; None when another one, or none, was exported."""

    @property
    def name(self) -> str:
        return str(self.sweep.get("name", self.store.uri.rsplit("/", 1)[-1]))

    @property
    def failed(self) -> list[TrialRecord]:
        return [record for record in self.records if record.status == "failed"]

    @property
    def stopped(self) -> list[TrialRecord]:
        return [record for record in self.records if record.status == "stopped"]

    @functools.cached_property
    def asks(self) -> list[Ask]:
        """All asks in the order of their numbers, read when they are wanted. Raises RecordError naming a broken one."""
        return self.store.asks()

    @property
    def best(self) -> Point | None:
        """The point of the best quality; the smallest of equals."""
        return max(self.front, key=lambda point: self.objectives.gain(point.quality.value), default=None)

    @property
    def shippable_front(self) -> list[Point]:
        """The points of the front that have an adapter file."""
        return [point for point in self.front if point.candidate.adapter_path is not None]

    @property
    def largest(self) -> Point | None:
        return max(self.points, key=lambda point: point.size, default=None)

    def adapter_uri(self, point: Point) -> str | None:
        """Absolute path or URI of a candidate's adapter; None when it has no file."""
        path = point.candidate.adapter_path
        return None if path is None else self.store.storage.uri_of(self.store.trial_path(point.key, path))

    def missing_answer(self) -> str | None:
        """Why no adapter can be recommended; None when one is."""
        if self.recommended is not None:
            return None
        if not self.records:
            return "No trial has finished yet: nothing to recommend."
        if not self.points and len(self.failed) == len(self.records):
            return f"All {len(self.records)} trials failed: nothing to recommend. Their reasons are listed below."
        if not self.points:
            return "No trial has a candidate that can stand on the axes: nothing to recommend."
        return "No candidate has an adapter file (all ranks are 0, or the files were deleted): nothing to recommend."


def summarize(
    store: Store,
    within: float | None = None,
    size: str | None = None,
    *,
    records: Sequence[TrialRecord] | None = None,
) -> Summary:
    """Reads a whole store. `within`: as for `recommend`; None takes the sweep's `recommend_within`. `size`: the
    axis, one of SIZES; None takes the sweep's own. `records`: all of the store's, by key, where they have been read.

    Raises StoreError when there is no store, RecordError naming a broken or newer document, ObjectivesError or
    ObjectiveError when the sweep's objectives are not those of the records.
    """
    sweep = store.read_sweep()
    objectives = Objectives.parse(sweep.get("objectives", {}))
    if size is not None:
        objectives = objectives.with_size(size)
    records = store.records() if records is None else list(records)
    base = store.read_base()
    if within is None:
        within = float(sweep.get("recommend_within", 0.01))
    all_points = points(records, objectives)
    best = front(all_points, objectives)
    origin = reference(all_points, objectives, base)
    recommended = recommend(all_points, objectives, within)
    exported = store.read_exported()
    if exported is not None and (
        recommended is None
        or (exported.key, exported.step) != (recommended.key, recommended.step)
        or exported.cut != recommended.candidate.cut
    ):
        exported = None
    return Summary(
        store=store,
        sweep=sweep,
        objectives=objectives,
        records=records,
        points=all_points,
        front=best,
        reference=origin,
        hypervolume=hypervolume(all_points, objectives, origin),
        base=base,
        full=best_full(records, objectives),
        within=within,
        recommended=recommended,
        exported=exported,
    )


def comparisons(summary: Summary) -> list[str]:
    """Sentences on how much smaller the recommended adapter is than the best and than the largest."""
    recommended = summary.recommended
    if recommended is None:
        return []
    lines = []
    for name, other in (("best", summary.best), ("largest tried", summary.largest)):
        if other is None:
            continue
        if other.name == recommended.name:
            lines.append(f"It is itself the {name}.")
        elif other.size > recommended.size > 0:
            times = other.size / recommended.size
            smaller = f"{times:.3g}× smaller than" if times >= 1.05 else "About as large as"
            lines.append(f"{smaller} the {name} ({summary.objectives.quality} {figure_text(other.quality)}).")
    return lines


def export_command(summary: Summary, point: Point, to: str | None = None) -> str:
    """The line that copies a candidate's adapter out of the store, ready for a shell.

    `to`: the folder; None: one named after the candidate.
    """
    folder = f"adapters/{point.key}-{point.candidate.name}" if to is None else to
    return f"prunedlora export {shlex.quote(summary.store.uri)} {point.name} --to {folder}"
