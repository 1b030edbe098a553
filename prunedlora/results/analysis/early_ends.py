"""What was not trained, or not to its end: where a stopped trial was stopped and by whom it was beaten, and how many
suggestions were passed over as too large."""

from collections.abc import Iterable
from typing import Any

from prunedlora.results.ask import Ask
from prunedlora.results.figure_text import counted
from prunedlora.results.record import TrialRecord


def stopped_facts(record: TrialRecord) -> dict[str, Any]:
    """Of a stopped trial: share of its steps and step at which it was stopped, and who was ahead at each size that it
    had before it; nothing where another rule stopped it, of which nothing is known."""
    look = record.stopped_at
    if look is None or look.decision is None:
        return {"share": None, "step": None, "beaten_by": []}
    beaten = [each.model_dump(mode="json") for each in look.decision.beaten_by]
    return {"share": look.share, "step": look.step, "beaten_by": beaten}


def beaten_text(record: TrialRecord) -> str:
    """The trials that a stopped one was beaten by, each once; empty where that is not known."""
    return ", ".join(dict.fromkeys(each["by"] for each in stopped_facts(record)["beaten_by"]))


def too_large_text(asks: Iterable[Ask]) -> str:
    """How many suggestions the constraints passed over; empty where they passed over none."""
    num = sum(ask.is_too_large for ask in asks)
    if num == 0:
        return ""
    were, their = ("was", "its") if num == 1 else ("were", "their")
    return (
        f"{counted(num, 'suggestion')} {were} passed over as too large: none of {their} adapters could keep the "
        "constraints."
    )
