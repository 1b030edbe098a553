"""Summary: what a store says, worked out once for the terminal, the report and the files."""

import functools
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prunedlora.limit_text import limit_text
from prunedlora.results.analysis.budget import best_to_ship, better_without_file, recommend
from prunedlora.results.analysis.confirmation import Confirmation, confirmation, confirming_keys
from prunedlora.results.analysis.constraints import Constraints
from prunedlora.results.analysis.original import Beside, beside_originals, originals
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
from prunedlora.results.analysis.served_size import forms_of, one_of_each_form, refusals
from prunedlora.results.analysis.tested import tested
from prunedlora.results.ask import Ask, ConfirmationPlan
from prunedlora.results.exported_adapter import RECOMMENDED_FOLDER, ExportedAdapter
from prunedlora.results.record import BaseReference, Candidate, Figure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.servers.adapter_shape import Kind
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Refused


@dataclass(frozen=True)
class Summary:
    store: Store
    sweep: dict[str, Any] = field(repr=False)
    """The sweep as sweep.yaml has it."""
    objectives: Objectives
    records: list[TrialRecord] = field(repr=False)
    points: list[Point] = field(repr=False)
    """All candidates, by key and step; without those of trainings that confirm others (confirmation.py)."""
    front: list[Point] = field(repr=False)
    """Smallest first."""
    reference: Reference
    hypervolume: float
    base: BaseReference | None
    full: Figure | None
    """The best that full fine-tuning reached; None where there was none."""
    within: float
    limits: Constraints
    """The sweep's own: what is above them is not recommended."""
    recommended: Point | None
    exported: ExportedAdapter | None
    """Test figures of the recommended adapter, which lies at `exported_uri`; None when another one, or none, was
    exported."""
    plans: list[ConfirmationPlan] = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.sweep.get("name", self.store.uri.rsplit("/", 1)[-1]))

    @functools.cached_property
    def refusals(self) -> dict[str, Counter[str]]:
        """Server → what it has against adapters that it serves right in no form → how many (served_size.refusals)."""
        return refusals(self.with_adapter, self.objectives.serve_on)

    @property
    def with_adapter(self) -> list[tuple[TrialRecord, Candidate]]:
        """All that could be shipped were every server content with it."""
        return [(record, one) for record in self.chosen_from for one in record.candidates if one.adapter_path]

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
    def confirming(self) -> frozenset[str]:
        """Keys of the trainings that confirm others, ended or not: they are no candidates (confirmation.py)."""
        return confirming_keys(self.plans)

    @property
    def chosen_from(self) -> list[TrialRecord]:
        """The records without those of such trainings."""
        return [record for record in self.records if record.key not in self.confirming]

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

    def test_of(self, point: Point) -> Figure | None:
        """What a candidate's quality is on the test split; None where it was not looked at there."""
        figures = self.tested.get(point.name, {})
        if self.exported is not None and self.is_recommended(point.name):
            figures = self.exported.test | figures
        return figures.get(self.objectives.quality)

    def is_recommended(self, name: str) -> bool:
        """Whether the candidate of this name (Point.name) is the recommended one."""
        return self.recommended is not None and self.recommended.name == name

    @property
    def base_quality(self) -> Figure | None:
        """What the untrained base model's quality is; None where it was not measured."""
        return None if self.base is None else self.base.figures.get(self.objectives.quality)

    @property
    def best(self) -> Point | None:
        """The adapter of the best quality of those that have a file and keep to the sweep's limits: what all others are
        told against. None where none does."""
        return best_to_ship(self.limits.within(self.points), self.objectives)

    @property
    def better_without_file(self) -> Point | None:
        """What measured better than `best`, but has no adapter file; None where none did."""
        return better_without_file(self.limits.within(self.points), self.objectives)

    @property
    def shippable_front(self) -> list[Point]:
        """The points of the front that have an adapter file."""
        return [point for point in self.front if point.has_file]

    def adapter_uri(self, point: Point) -> str | None:
        """Absolute path or URI of a candidate's adapter; None when it has no file."""
        path = point.candidate.adapter_path
        return None if path is None else self.store.storage.uri_of(self.store.trial_path(point.key, path))

    @property
    def exported_uri(self) -> str | None:
        """Absolute path or URI of the exported adapter in the store as it lies now; None where none was exported."""
        return None if self.exported is None else self.store.storage.uri_of(RECOMMENDED_FOLDER)

    def missing_answer(self) -> str | None:
        """Why no adapter can be recommended; None when one is."""
        if self.recommended is not None:
            return None
        if not self.records:
            return "No trial has finished yet: nothing to recommend."
        if not self.points and len(self.failed) == len(self.records):
            return f"All {len(self.records)} trials failed: nothing to recommend."
        if self.with_adapter and self.refusals and not any(point.has_file for point in self.points):
            why = "; ".join(f"{SERVERS[name].title}: {', '.join(found)}" for name, found in self.refusals.items())
            return (
                f"No adapter is served right by all of {', '.join(self.objectives.serve_on)}: nothing to recommend. "
                f"{why}. `--serve-on none` asks for sizes as trained."
            )
        if not self.points:
            return "No trial has a candidate that can stand on the axes: nothing to recommend."
        with_file = [point for point in self.points if point.has_file]
        if with_file and not self.limits.within(with_file):
            return (
                f"No adapter keeps to the sweep's limits: {limit_text(self.limits.limits)}; nothing to recommend: "
                f"{self.limits.nearest(with_file)}."
            )
        return "No candidate has an adapter file (all ranks are 0, or the files were deleted): nothing to recommend."


def summarize(
    store: Store,
    within: float | None = None,
    size: str | None = None,
    *,
    serve_on: Sequence[str] | None = None,
    records: Sequence[TrialRecord] | None = None,
) -> Summary:
    """Reads a whole store. `within`: as for `recommend`; None takes the sweep's `recommend_within`. `size`: the
    axis, one of SIZES; `serve_on`: as Objectives has it; None takes the sweep's own. `records`: all of the store's, by
    key, where they have been read.

    Raises StoreError when there is no store, RecordError naming a broken or newer document, ObjectivesError or
    ObjectiveError when the sweep's objectives are not those of the records.
    """
    sweep = store.read_sweep()
    objectives = Objectives.of_sweep(sweep)
    if size is not None:
        objectives = objectives.with_size(size)
    if serve_on is not None:
        objectives = objectives.with_servers(serve_on)
    records = store.records() if records is None else list(records)
    base = store.read_base()
    if within is None:
        within = margin_of_sweep(sweep)
    plans = store.confirmations()
    confirming = confirming_keys(plans)
    all_points = points([record for record in records if record.key not in confirming], objectives)
    best = front(all_points, objectives)
    origin = reference(all_points, objectives, base)
    limits = Constraints.of_sweep(sweep)
    recommended = recommend(limits.within(all_points), objectives, within)
    exported = store.read_exported()
    if exported is not None and (
        recommended is None
        or (exported.key, exported.step) != (recommended.key, recommended.step)
        or exported.cut != recommended.candidate.cut
        or not has_forms(recommended, objectives.serve_on, exported.serve_on)
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
        limits=limits,
        recommended=recommended,
        exported=exported,
        plans=plans,
    )


def has_forms(point: Point, asked: Sequence[str], copied_for: Sequence[str]) -> bool:
    """Whether the copy of an adapter that was made for some servers has what others need: a copy as it was trained is
    in all of them."""
    missing = [server for server in asked if server not in copied_for]
    forms = forms_of(point.record, point.candidate, missing).values() if missing else ()
    return all(not isinstance(form, Refused) and form.kind == Kind.TRAINED for form in forms)


def margin_of_sweep(sweep: Mapping[str, Any]) -> float:
    """How much worse than the best its recommended adapter may measure, in units of the quality."""
    return float(sweep.get("recommend_within", 0.01))


def export_command(summary: Summary, point: Point, to: str | None = None) -> str:
    """The line that copies a candidate's adapter out of the store, ready for a shell; for servers that need several
    forms, each into a folder of its own.

    `to`: the folder; None: one named after the candidate.
    """
    folder = f"adapters/{point.key}-{point.candidate.name}" if to is None else to
    line = f"prunedlora export {shlex.quote(summary.store.uri)} {point.name} --to {folder}"
    servers = one_of_each_form(point.record, point.candidate, summary.objectives.serve_on)
    if len(servers) < 2:
        return line + "".join(f" --serve-on {server}" for server in servers)
    return " && ".join(f"{line}-{server} --serve-on {server}" for server in servers)
