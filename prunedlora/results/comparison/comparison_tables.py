"""A comparison in the terminal, within 100 columns."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunedlora.results.analysis.harness_quality import titled
from prunedlora.results.comparison.fronts import Comparison, Contrast
from prunedlora.results.comparison.groups import differing
from prunedlora.results.comparison.words import finding, hypervolumes, interval, notes, said
from prunedlora.results.figure_text import figure_text
from prunedlora.results.report.tables import plain_table
from prunedlora.results.report.verdict import percent

NAME_WIDTH = 16
MOST_DIFFERING = 8


def overview(comparison: Comparison, left_out: list[str]) -> Group:
    """The groups, the answer, a table for each comparison with the control, and how it was reached."""
    parts: list[RenderableType] = [groups_table(comparison)]
    if left_out:
        parts.append(Text(f"Left out: {'; '.join(left_out)}."))
    parts += [Text(" ".join(finding(comparison, contrast)), style="bold") for contrast in comparison.contrasts]
    parts += [Text(hypervolumes(comparison)), Text("")]
    for contrast in comparison.contrasts:
        parts += [budgets_table(comparison, contrast), Text("")]
    if paths := list(differing(comparison.groups)):
        more = f" and {len(paths) - MOST_DIFFERING} more" if len(paths) > MOST_DIFFERING else ""
        parts.append(Text(f"They differ in {', '.join(paths[:MOST_DIFFERING])}{more}, each throughout."))
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


def budgets_table(comparison: Comparison, contrast: Contrast) -> Table:
    """The best adapter of each up to some sizes, and the difference with its interval."""
    group, control, objectives = contrast.group, comparison.control, comparison.objectives
    recommended = {one.recommended.size for one in (group, control) if one.recommended is not None}
    table = plain_table(
        f"{group.name} against {control.name} at matched {objectives.size}: {objectives.quality}, difference with "
        f"{percent(comparison.confidence)} interval (→ size of a recommended adapter)"
    )
    table.add_column("", width=1)
    table.add_column("at most", justify="right", no_wrap=True)
    for name in (group.name, control.name):
        table.add_column(Text(name), justify="right", max_width=NAME_WIDTH, overflow="fold")
        table.add_column("size", justify="right", no_wrap=True)
    table.add_column("better by", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", max_width=26)
    for one in contrast.budgets:
        table.add_row(
            "→" if one.size in recommended else "",
            f"{one.size:,.10g}",
            f"{one.group.quality.value:.3f}",
            f"{one.group.size:,.10g}",
            f"{one.control.quality.value:.3f}",
            f"{one.control.size:,.10g}",
            interval(one),
            Text(said(comparison, contrast, one)),
        )
    return table
