"""A comparison in the terminal, within 100 columns."""

from collections.abc import Collection, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunedlora.results.analysis.harness_quality import titled
from prunedlora.results.comparison.fronts import Comparison
from prunedlora.results.comparison.groups import differing
from prunedlora.results.comparison.verdicts import Matched, Side, Terms, interval
from prunedlora.results.comparison.words import (
    hypervolumes,
    notes,
    of_adapters,
    of_methods,
    tables_of,
    terms_of,
)
from prunedlora.results.figure_text import figure_text, first_of
from prunedlora.results.report.tables import plain_table

NAME_WIDTH = 16
MOST_DIFFERING = 8


def overview(comparison: Comparison, left_out: list[str]) -> Group:
    """The answers, the groups, a table for each comparison with the control, and how it was reached."""
    parts: list[RenderableType] = []
    for contrast in comparison.contrasts:
        for first, *rest in (of_methods(comparison, contrast), of_adapters(comparison, contrast)):
            parts.append(Text.assemble((first, "bold"), *(f" {line}" for line in rest)))
    parts += [Text(""), groups_table(comparison)]
    if left_out:
        parts.append(Text(f"Left out: {'; '.join(left_out)}."))
    parts += [Text(hypervolumes(comparison)), Text("")]
    for contrast in comparison.contrasts:
        recommended = {
            one.recommended.size for one in (contrast.group, comparison.control) if one.recommended is not None
        }
        for title, rows in tables_of(comparison, contrast):
            parts += [matched_table(terms_of(comparison, contrast), title, rows, recommended), Text("")]
    if paths := list(differing(comparison.groups)):
        parts.append(Text(f"They differ in {first_of(paths, MOST_DIFFERING)}, each throughout."))
    parts += [Text(note) for note in notes(comparison)]
    return Group(*parts)


def groups_table(comparison: Comparison) -> Table:
    """Trials, best and recommended adapter of every group, the control first."""
    objectives = comparison.objectives
    table = plain_table(
        f"{titled(objectives.quality, 'Validation')} against {objectives.size}; recommended: the smallest at most "
        f"{comparison.within:g} worse than the best"
    )
    table.add_column("", min_width=8, max_width=NAME_WIDTH, overflow="fold")
    for name in ("trials", "failed", "candidates", "best"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("recommended", overflow="fold")
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column(objectives.quality, justify="right", no_wrap=True)
    for group in comparison.groups:
        point = group.recommended
        table.add_row(
            # Text, not str: brackets in a name are no markup.
            Text(group.name),
            str(len(group.records)),
            str(group.num_failed),
            str(len(group.points)),
            figure_text(group.best.quality),
            "no adapter file" if point is None else point.name,
            "" if point is None else f"{point.candidate.adapter_params:,}",
            "" if point is None else figure_text(point.quality),
        )
    return table


def matched_table(
    terms: Terms, title: str, rows: Sequence[Matched[Side]], recommended: Collection[float] = ()
) -> Table:
    """The best of each up to some sizes, and the difference with its interval; `recommended` sizes are marked."""
    table = plain_table(title + (" (→ size of a recommended adapter)" if recommended else ""))
    table.add_column("", width=1)
    table.add_column("at most", justify="right", no_wrap=True)
    for name in (terms.name, terms.control):
        table.add_column(Text(name), justify="right", max_width=NAME_WIDTH, overflow="fold")
        table.add_column("size", justify="right", no_wrap=True)
    table.add_column("better by", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", max_width=26)
    for one in rows:
        table.add_row(
            "→" if one.size in recommended else "",
            f"{one.size:,.10g}",
            f"{one.group.quality.value:.3f}",
            f"{one.group.size:,.10g}",
            f"{one.control.quality.value:.3f}",
            f"{one.control.size:,.10g}",
            interval(one),
            Text(terms.said(one)),
        )
    return table
