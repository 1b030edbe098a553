"""What evaluating costs beside training, and whom it was spared."""

from collections.abc import Iterable

from prunedlora.results.figure_text import seconds_text
from prunedlora.results.record import TrialRecord


def evaluation_share(train_seconds: float, evaluation_seconds: float | None) -> float | None:
    """Share of both together that went into evaluations; None where that is not on record, or nothing took time."""
    if evaluation_seconds is None or train_seconds + evaluation_seconds == 0:
        return None
    return evaluation_seconds / (train_seconds + evaluation_seconds)


def share_words(train_seconds: float, evaluation_seconds: float | None) -> str | None:
    """The same as "evaluation 34% of the time"; of a trial that was not trained "evaluation 12 s"; None where it is not
    known."""
    share = evaluation_share(train_seconds, evaluation_seconds)
    if share is None:
        return None
    if train_seconds == 0:
        return f"evaluation {seconds_text(evaluation_seconds or 0.0)}"
    return f"evaluation {share:.0%} of the time"


def judged_text(records: Iterable[TrialRecord]) -> str:
    """How many candidates have no answers, and why; empty where all that are asked for were generated."""
    candidates = [candidate for record in records for candidate in record.candidates]
    num = sum(candidate.judged_by_loss is not None for candidate in candidates)
    if num == 0:
        return ""
    were, them, each = ("was", "it", "it") if num == 1 else ("were", "them", "each")
    return (
        f"{num:,} of {len(candidates):,} candidates {were} judged by loss: another, no larger, clearly beats {each} on "
        f"the same examples, so no answers were generated for {them} (evaluation.generate)."
    )
