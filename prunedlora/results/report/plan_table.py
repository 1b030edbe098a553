"""How far the plan was from the truth: for the page, the terminal and report.json."""

from dataclasses import dataclass
from typing import Any

from prunedlora.results.analysis.plan_document import PlanRow, changed_fields, plan_rows, read_plan
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.figure_text import counted, seconds_text


@dataclass(frozen=True)
class PlanFindings:
    """Of a store with a plan on record."""

    rows: list[PlanRow]
    """None of them where the plan is of another sweep."""
    changed: list[str]
    """Fields of the sweep that are others than when it was planned."""

    def text(self) -> str:
        """One sentence without a full stop."""
        if self.changed:
            return f"the plan on record is of other {', '.join(self.changed)}"
        by_name = {row.name: row for row in self.rows}
        time, trainings = by_name["device seconds"], by_name["trainings"]
        each = by_name.get("device seconds a training")
        words = (
            f"{counted(round(trainings.planned), 'training')} and {seconds_text(time.planned)} over all devices were "
            f"planned, {trainings.real:,.0f} took {seconds_text(time.real)}"
        )
        return words + (f" ({each.ratio:.2f} of the plan for each)" if each is not None and each.ratio else "")


def plan_findings(summary: Summary) -> PlanFindings | None:
    """None where nothing was planned. Raises RecordError for a broken plan.json."""
    plan = read_plan(summary.store)
    if plan is None:
        return None
    changed = changed_fields(plan, summary.sweep)
    return PlanFindings([] if changed else plan_rows(plan, summary.chosen_from), changed)


def number_text(row: PlanRow, value: float) -> str:
    """A planned or real value with its unit."""
    return seconds_text(value) if row.name.startswith("device seconds") else f"{value:,.0f}"


def title_of(row: PlanRow) -> str:
    """What a row is called beside `number_text`, which names the unit."""
    return row.name.replace("device seconds", "device time")


def plan_json(found: PlanFindings | None) -> dict[str, Any] | None:
    """The same as plain JSON data."""
    if found is None:
        return None
    figures = [{"name": row.name, "planned": row.planned, "real": row.real, "ratio": row.ratio} for row in found.rows]
    return {"changed": found.changed, "figures": figures}
