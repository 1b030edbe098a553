"""Summary: what a store says, worked out once for the terminal, the report and the files."""

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.results.analysis.budget import recommend
from prunedlora.results.analysis.confirmation import Confirmation, confirmation, confirming_keys
from prunedlora.results.analysis.original import (
    Beside,
    beside_originals,
    original_name,
    originals,
    works_no_better,
)
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
from prunedlora.results.analysis.tested import tested
from prunedlora.results.ask import Ask, ConfirmationPlan
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
    """All candidates, by key and step; without those of trainings that confirm others (confirmation.py)."""
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
    plans: list[ConfirmationPlan]

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

    @functools.cached_property
    def confirmations(self) -> list[Confirmation]:
        """What fresh seeds told, in the order of the plans; read when it is wanted. Raises RecordError."""
        return [confirmation(self.store, self.records, self.objectives, plan) for plan in self.plans]

    @functools.cached_property
    def tested(self) -> dict[str, dict[str, Figure]]:
        """Name → test figures, of all points that were looked at on the test split; read when it is wanted. Raises
        RecordError."""
        return tested(self.store, self.points)

    @functools.cached_property
    def originals(self) -> dict[str, Point]:
        """Key of each training → the adapter that it began with, where that is among the points."""
        return originals(self.points)

    @functools.cached_property
    def beside(self) -> dict[str, Beside]:
        """Name of each point that was made of an original → how it stands beside that; the outcomes by example are read
        when it is wanted. Raises RecordError for broken ones."""
        return beside_originals(self.store, self.points, self.objectives)

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
    plans = store.confirmations()
    confirming = confirming_keys(plans)
    all_points = points([record for record in records if record.key not in confirming], objectives)
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
        plans=plans,
    )


def comparisons(summary: Summary) -> list[str]:
    """Sentences on how much smaller the recommended adapter is than the one that its training began with, where there
    was one, than the best and than the largest."""
    recommended = summary.recommended
    if recommended is None:
        return []
    original = summary.originals.get(recommended.key)
    lines = [] if original is None else _doubted(summary, original)
    if original is not None and original.name == recommended.name:
        return [*lines, _nothing_smaller(summary, original)]
    if original is not None:
        lines.append(_beside_original(summary, recommended, original))
    for name, other in (("best", summary.best), ("largest tried", summary.largest)):
        if other is None or (original is not None and other.name == original.name):
            continue
        if other.name == recommended.name:
            lines.append(f"It is itself the {name}.")
        elif other.size > recommended.size > 0:
            smaller = _smaller(other.size / recommended.size)
            lines.append(f"{smaller} the {name} ({summary.objectives.quality} {figure_text(other.quality)}).")
    return lines


def _smaller(times: float) -> str:
    return f"{times:.3g}× smaller than" if times >= 1.05 else "About as large as"


def _doubted(summary: Summary, original: Point) -> list[str]:
    """That the original does not work on these data, in which case no size of it says anything; else nothing."""
    quality = summary.objectives.quality
    base = None if summary.base is None else summary.base.figures.get(quality)
    if base is None or not works_no_better(original.quality, base, summary.objectives):
        return []
    return [
        f"WARNING: the adapter that it began with ({original_name(original.record)}) is not clearly better here than "
        f"the untrained base model: {quality} {figure_text(original.quality)} against {figure_text(base)}. Are these "
        "the order of its classes (data.labels), its prompt or chat template, its base model, and data of its task? "
        "Until then no size says anything."
    ]


def _nothing_smaller(summary: Summary, original: Point) -> str:
    return (
        f"It is the adapter that it began with, {original_name(original.record)}, as it came: nothing smaller is at "
        f"most {summary.within:g} worse than the best{_unless_itself(summary, original)}."
    )


def _unless_itself(summary: Summary, point: Point) -> str:
    """Which adapter is the best, as what follows its name."""
    best = summary.best
    if best is None or best.name == point.name:
        return ", which it is itself"
    return f" ({best.name}, {summary.objectives.quality} {figure_text(best.quality)})"


def _beside_original(summary: Summary, recommended: Point, original: Point) -> str:
    beside, quality = summary.beside[recommended.name], summary.objectives.quality
    times = "Empty, beside" if beside.times_smaller is None else _smaller(beside.times_smaller)
    best = " None measured better." if summary.best is not None and summary.best.name == original.name else ""
    step = recommended.candidate.step
    trained = f" It was trained on for {step:,} steps, which the original was not." if step else ""
    return (
        f"{times} the adapter that it began with ({original_name(original.record)}, {quality} "
        f"{figure_text(original.quality)}), {beside.difference_text(quality)}.{best}{trained}{_on_test(summary)} "
        "Nobody chose the original on these examples, but this one was chosen: expect a little less of it."
    )


def _on_test(summary: Summary) -> str:
    """What both have on the test split, as a sentence that follows; empty where one was not measured there."""
    exported, quality = summary.exported, summary.objectives.quality
    began = None if exported is None else exported.original_test
    if exported is None or began is None or quality not in began or quality not in exported.test:
        return ""
    return (
        f" On the test split it has {figure_text(exported.test[quality])}, the original {figure_text(began[quality])}."
    )


def export_command(summary: Summary, point: Point, to: str | None = None) -> str:
    """The line that copies a candidate's adapter out of the store, ready for a shell.

    `to`: the folder; None: one named after the candidate.
    """
    folder = f"adapters/{point.key}-{point.candidate.name}" if to is None else to
    return f"prunedlora export {shlex.quote(summary.store.uri)} {point.name} --to {folder}"
