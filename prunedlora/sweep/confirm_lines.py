"""Lines on a plan of a confirmation, before anything of it is trained."""

from prunedlora.results.analysis.confirmation import Confirmation
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.ask import ConfirmationPlan
from prunedlora.results.figure_text import counted, percent
from prunedlora.results.record import TrialRecord
from prunedlora.sweep.confirm_plan import WHAT_HANGS, Request
from prunedlora.sweep.confirm_second import second


def choice_line(summary: Summary, request: Request, plan: ConfirmationPlan) -> str:
    """What is beside the recommended adapter and why, or what could be; empty where that was named."""
    if request.names == WHAT_HANGS and (beside := second(summary)) is not None:
        return f"The recommended adapter is the best itself: beside it {beside.point.name}, {beside.why}"
    if plan.against is not None:
        return ""
    best = None if summary.best is None or summary.best.name in plan.candidates else summary.best.name
    other = "a KEY of prunedlora report" if best is None else f"best say ({best})"
    return f"It is compared with nothing: name another beside it, {other}"


def against_lines(plan: ConfirmationPlan) -> list[str]:
    """What is asked of the others."""
    if plan.against is None:
        return []
    return [f"Compared with {plan.against}: at most {plan.within:g} worse, with {100 * plan.confidence:g} % confidence"]


def earlier_line(found: Confirmation) -> str:
    """That there is a confirmation of the same adapters, and what it asked."""
    plan = found.plan
    asked = "" if plan.against is None else f", at most {plan.within:g} worse, {percent(plan.confidence)} confidence"
    return (
        f"Confirmation {plan.number}, {'finished' if found.is_over else 'not finished'}, is of the same adapters: "
        f"{counted(len(plan.seeds), 'seed')}{asked}. This is another, with seeds of its own; the first is the one to "
        "believe"
    )


def trunk_lines(plan: ConfirmationPlan, records: dict[str, TrialRecord]) -> list[str]:
    """That an adapter which a training began with is the same for every seed."""
    adapters = [records[setting.key].config.get("adapter") for setting in plan.settings]
    began = sorted({str(each["start_from"]) for each in adapters if isinstance(each, dict) and each.get("start_from")})
    return [
        f"All begin with {name} as it is: how it was trained is not repeated, and its luck is in all" for name in began
    ]
