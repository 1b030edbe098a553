"""What evaluating costs beside training, in words and as a share."""

from collections.abc import Iterable

from prunedlora.results.record import Candidate, TrialRecord


def evaluation_share(train_seconds: float, evaluation_seconds: float | None) -> float | None:
    """Share of both together that went into evaluations; None where that is not on record, or nothing took time."""
    if evaluation_seconds is None or train_seconds + evaluation_seconds == 0:
        return None
    return evaluation_seconds / (train_seconds + evaluation_seconds)


def share_words(train_seconds: float, evaluation_seconds: float | None) -> str | None:
    """ "evaluation 34% of the time"; None where it is not known."""
    share = evaluation_share(train_seconds, evaluation_seconds)
    return None if share is None else f"evaluation {share:.0%} of the time"


def times(records: Iterable[TrialRecord]) -> tuple[float, float | None]:
    """Seconds of training and of evaluations over the trials whose evaluations are on record; None: no trial's are."""
    known = [(record.train_seconds, record.evaluation_seconds) for record in records]
    evaluations = [evaluation for _, evaluation in known if evaluation is not None]
    training = sum(train for train, evaluation in known if evaluation is not None)
    return training, sum(evaluations) if evaluations else None


def judged_by_loss(records: Iterable[TrialRecord]) -> list[Candidate]:
    """The candidates whose answers were not generated."""
    return [each for record in records for each in record.candidates if each.judged_by_loss is not None]
