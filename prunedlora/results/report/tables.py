"""The front, what was made of an original, and the failed trials as tables of the terminal, within 80 columns."""

import itertools
import string

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from prunedlora.results.analysis.example_errors import LOSS
from prunedlora.results.analysis.harness_quality import titled
from prunedlora.results.analysis.serving import short_slot
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.figure_text import figure_text, file_text
from prunedlora.results.recorded_settings import method
from prunedlora.results.report.original_table import OriginalTable, made_word, original_tables
from prunedlora.results.rung_text import left_text, rung_text

LONGEST_NAME = 10
"""Characters of a candidate's name that have room in the table; longer ones, of cuts, stand below it, by a letter."""


def front_table(summary: Summary) -> Table:
    """The front, smallest first, with the recommended adapter marked by an arrow. Where there are rungs or cuts, a
    column says so, in the place of a method that is everyone's."""
    objectives = summary.objectives
    rungs = {point.name: rung_text(point.record, point.candidate) for point in summary.front}
    letters = letters_of(summary)
    with_rungs = any(rungs.values())
    with_method = not with_rungs or len({method(point.record) for point in summary.front}) > 1
    table = plain_table(f"Front of {summary.name}: {titled(objectives.quality)} against {objectives.size}")
    table.add_column("", width=1)
    last = "served" if objectives.serve_on else "slot"
    for name in (objectives.quality, "params", "file", "rank", last):
        table.add_column(name, justify="right", no_wrap=True)
    if with_method:
        table.add_column("method", overflow="ellipsis", no_wrap=True, max_width=10)
    table.add_column("trial", no_wrap=True)
    if with_rungs:
        table.add_column("rung", justify="right", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    for point in summary.front:
        candidate = point.candidate
        is_recommended = summary.is_recommended(point.name)
        table.add_row(
            "→" if is_recommended else "",
            figure_text(point.quality),
            f"{candidate.adapter_params:,}",
            file_text(candidate),
            str(candidate.max_rank),
            f"{point.size:,.0f}" if objectives.serve_on else short_slot(candidate, memory=False),
            # Text, not str: brackets in a name are no markup.
            *([Text(method(point.record))] if with_method else []),
            point.key,
            *([rungs[point.name]] if with_rungs else []),
            f"{point.step} {letters[point.name]}" if point.name in letters else candidate.name,
            style="bold" if is_recommended else None,
        )
    return table


def original_table(summary: Summary, table: OriginalTable) -> Table:
    """A training beside the adapter that it began with, which is the first row; largest first."""
    quality = summary.objectives.quality
    letters = letters_of(summary)
    shown = plain_table(None)
    shown.add_column("", width=1)
    for name in ("params", "smaller", quality, "Δ" if quality == LOSS else "Δ points"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("made", no_wrap=True)
    shown.add_column("step", justify="right", no_wrap=True)
    for point, beside in ((table.original, None), *table.rows):
        is_recommended = summary.is_recommended(point.name)
        shown.add_row(
            "→" if is_recommended else "",
            f"{point.candidate.adapter_params:,}",
            "" if beside is None else beside.times_text,
            figure_text(point.quality),
            "" if beside is None else beside.short_text(quality),
            made_word(point),
            f"{point.step} {letters[point.name]}" if point.name in letters else point.candidate.name,
            style="bold" if is_recommended else None,
        )
    return shown


def letters_of(summary: Summary) -> dict[str, str]:
    """Name of each point of the tables that has no room in them → what stands for it: a, b, …, z, aa, ab, …"""
    rows = [point for table in original_tables(summary).tables for point, _ in table.rows]
    shown = {point.name: point for point in (*summary.front, *rows)}
    long = [name for name, point in shown.items() if len(point.candidate.name) > LONGEST_NAME]
    lengths = itertools.count(1)
    words = (word for length in lengths for word in itertools.product(string.ascii_lowercase, repeat=length))
    return {name: "".join(word) for name, word in zip(long, words, strict=False)}


def failures_table(summary: Summary) -> Table:
    """Failed trials with their reasons and what they left before, one row each."""
    table = plain_table(f"{len(summary.failed)} of {len(summary.records)} trials failed")
    table.add_column("trial", no_wrap=True)
    table.add_column("reason", overflow="fold", ratio=1)
    table.add_column("step", justify="right", no_wrap=True)
    for record in summary.failed:
        failure = record.failure
        if failure is not None:
            reason = f"{failure.type}: {failure.message}".splitlines()[0]
            left = left_text(record)
            reason += f"\nleft {left}" if left else ""
            table.add_row(record.key, Text(reason), "" if failure.step is None else str(failure.step))
    return table


def plain_table(title: str | None) -> Table:
    """An empty table in the style of all of ours."""
    return Table(
        title=None if title is None else Text(title), title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False
    )
