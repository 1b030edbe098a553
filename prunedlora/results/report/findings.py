"""Findings: what page, report.json and pictures tell beside the summary, worked out once for all of them."""

from dataclasses import dataclass

from prunedlora.results.analysis.attainment import Attainment, attainment
from prunedlora.results.analysis.confirmation_text import confirmation_sentences
from prunedlora.results.analysis.decision import Decision, decide
from prunedlora.results.analysis.directions import Direction, directions
from prunedlora.results.analysis.harness_figures import harness_figures
from prunedlora.results.analysis.history import Stage, hypervolume_history
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.importances_document import Importances, read_importances
from prunedlora.results.record import Figure
from prunedlora.results.report.plan_table import PlanFindings, plan_findings
from prunedlora.results.warm_start_document import warm_start_sentences


@dataclass(frozen=True)
class Findings:
    decision: Decision | None
    stages: list[Stage]
    importances: Importances | None
    bands: Attainment | None
    directions: dict[str, dict[str, Direction]]
    harness: dict[str, dict[str, Figure]]
    confirmed: list[str]
    warm_start: list[str]
    plan: PlanFindings | None


def find_all(summary: Summary) -> Findings:
    """Raises RecordError for an importances.json, a warm_start.json, a plan.json, outcomes, or figures of others that
    are broken."""
    return Findings(
        decision=decide(summary),
        stages=hypervolume_history(summary),
        importances=read_importances(summary.store),
        bands=attainment(summary),
        directions=directions(summary),
        harness=harness_figures(summary),
        confirmed=confirmation_sentences(summary.confirmations, summary.objectives),
        warm_start=warm_start_sentences(summary.store),
        plan=plan_findings(summary),
    )
