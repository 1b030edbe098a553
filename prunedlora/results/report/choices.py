"""What may be lost, and what that buys: the decision's choices as rows, for page and terminal."""

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from prunedlora.results.analysis.decision import Choice, Decision
from prunedlora.results.analysis.example_errors import LOSS
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.serve_text import params_text
from prunedlora.results.analysis.serving import short_slot, slot_cell
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.figure_text import figure_text, file_text, percent
from prunedlora.results.report.tables import plain_table

NAME_WIDTH = 12
"""Columns that an adapter's name has at least, folded: where the others leave it none, all names look alike."""


@dataclass(frozen=True)
class ChoiceRow:
    point: Point
    is_answer: bool
    """Whether it is that of the margin that was asked for."""
    cells: dict[str, str]
    """Heading → text, for the page."""
    short: dict[str, str]
    """The same for the terminal, with the adapter's name within 80 columns."""


def choice_rows(decision: Decision, summary: Summary) -> list[ChoiceRow]:
    """By rising margin."""
    return [_row(one, decision, summary.objectives.quality) for one in decision.choices]


def choices_table(decision: Decision, summary: Summary) -> Table:
    """What each margin buys, within 80 columns."""
    bounds = "" if decision.unproven else f" ({percent(decision.confidence)} bounds)"
    table = plain_table(f"What may be lost, and the smallest adapter measured so{bounds}")
    rows = choice_rows(decision, summary)
    for name in rows[0].short:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("adapter", overflow="fold", min_width=NAME_WIDTH)
    for row in rows:
        table.add_row(*row.short.values(), Text(row.point.name), style="bold" if row.is_answer else None)
    return table


def margin_text(margin: float, quality: str) -> str:
    """ "nothing", "2 points", "0.02 of loss" """
    if margin == 0:
        return "nothing"
    if quality == LOSS:
        return f"{margin:g} of loss"
    return f"{100 * margin:g} point{'s' * (margin != 0.01)}"


def _row(choice: Choice, decision: Decision, quality: str) -> ChoiceRow:
    one, point, is_answer = choice.standing, choice.standing.point, choice.margin == decision.within
    parameters, file, worse = (
        params_text(point).replace(" parameters", ""),
        file_text(point.candidate),
        f"{one.shortfall:.3f}",
    )
    bound, is_proven = None if one.bound is None else f"{one.bound:.3f}", one.is_proven(choice.margin)
    cells = {
        "may be lost": margin_text(choice.margin, quality) + (", as the sweep asks" if is_answer else ""),
        "parameters": parameters,
        "file": file,
        "vLLM slot": slot_cell(point.candidate),
        quality: figure_text(point.quality),
        "measured worse by": worse,
        "at most": "not known" if bound is None else bound,
        "told": "proven" if is_proven else f"measured{_smallest_proven(choice)}",
    }
    short = {
        "within": f"{choice.margin:g}",
        quality: f"{point.quality.value:.3f}",
        "worse": worse,
        "at most": "?" if bound is None else f"{bound}{' proven' if is_proven else ''}",
        "params": f"{point.candidate.adapter_params:,}",
        "file": file,
        "slot": short_slot(point.candidate, memory=True),
    }
    return ChoiceRow(point, is_answer, cells, short)


def _smallest_proven(choice: Choice) -> str:
    one = choice.proven
    return "" if one is None else f" (smallest proven: {params_text(one.point)})"
