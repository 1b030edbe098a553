"""What a training made of the adapter that it began with, size by size: cut alone, and trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunedlora.results.analysis.original import Beside, original_facts, original_name
from prunedlora.results.analysis.pareto import Point, front
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.figure_text import counted
from prunedlora.results.rung_text import rung_text

MOST_TABLES = 3
"""Trainings that have a table; all candidates of all are in candidates.csv."""
MOST_ROWS = 30
"""Rows up to which all cuts have one; of more, those that another cut of the training beats have none."""


@dataclass(frozen=True)
class OriginalTable:
    """One training."""

    original: Point
    rows: tuple[tuple[Point, Beside], ...]
    """Largest first; of equal sizes what was cut before what was trained on."""
    num_left_out: int
    """Cuts that another one of the training beats, where they are too many."""

    @property
    def title(self) -> str:
        """Which adapter it is, by name and content."""
        sha = original_facts(self.original.record).get("sha256")
        told = "" if sha is None else f" (sha256 {str(sha)[:12]}…)"
        name = original_name(self.original.record)
        return f"Trial {self.original.key} beside the adapter that it began with, {name}{told}"


@dataclass(frozen=True)
class OriginalTables:
    tables: tuple[OriginalTable, ...]
    """That of the recommended adapter first, then those that reach the front, by key."""
    num_left_out: int
    """Trainings without a table."""

    def note(self) -> str:
        """What is not in the tables; empty where everything is."""
        cuts = sum(table.num_left_out for table in self.tables)
        parts = [f"{cuts:,} cuts that another cut beats"] if cuts else []
        if self.num_left_out:
            parts.append(counted(self.num_left_out, "further training"))
        return f"Not shown, but in candidates.csv: {' and '.join(parts)}." if parts else ""


def original_tables(summary: Summary) -> OriginalTables:
    """The tables of a sweep; none where no training began with an adapter that was measured as it came."""
    recommended = None if summary.recommended is None else summary.recommended.key
    on_front = {point.key for point in summary.front}
    keys = sorted(summary.originals, key=lambda key: (key != recommended, key not in on_front, key))
    tables = tuple(_table(summary, summary.originals[key]) for key in keys[:MOST_TABLES])
    return OriginalTables(tables, len(keys) - len(tables))


def made_word(point: Point) -> str:
    """How it was made, in a few characters: "original", "cut", "2/5 cut", "trained on", "3/5 trained on"."""
    text = rung_text(point.record, point.candidate)
    return text if point.candidate.cut is not None or point.candidate.is_original else f"{text} trained on".strip()


def _table(summary: Summary, original: Point) -> OriginalTable:
    made = [point for point in summary.points if point.key == original.key and point.name != original.name]
    kept = made if len(made) <= MOST_ROWS else _without_beaten(made, summary)
    rows = sorted(kept, key=lambda point: (-point.size, point.candidate.cut is None, point.candidate.name))
    return OriginalTable(original, tuple((point, summary.beside[point.name]) for point in rows), len(made) - len(kept))


def _without_beaten(made: Sequence[Point], summary: Summary) -> list[Point]:
    cuts = [point for point in made if point.candidate.cut is not None]
    unbeaten = {point.name for point in front(cuts, summary.objectives)}
    return [p for p in made if p.candidate.cut is None or p.name in unbeaten or summary.is_recommended(p.name)]
