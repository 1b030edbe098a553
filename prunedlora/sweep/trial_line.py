"""A trial that has ended, and a candidate, each in words of one line; and times on the clock."""

from prunedlora.results.analysis.evaluation_time import share_words
from prunedlora.results.analysis.throughput_text import throughput_text
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import Candidate, TrialRecord


def ended_line(record: TrialRecord, quality: str) -> str:
    """How a trial ended: what it found at which sizes, and in which time. `quality`: the sweep's objective."""
    if record.failure is not None:
        return f"trial {record.key} failed: {record.failure.type}: {record.failure.message}"
    last, ended = record.last_trained, f"trial {record.key} {_ending(record)}"
    if last is None:
        return ended
    failure = last.harness_failure
    further = "" if failure is None else f"; lm-evaluation-harness failed: {failure.type}: {failure.message}"
    measured = [one for one in record.candidates if one.rung is not None and quality in one.figures] or [last]
    sizes = sorted(measured, key=lambda one: (one.adapter_params, one.step))
    texts = [candidate_text(one, quality) for one in (sizes[0], *sizes[1:][-1:])]
    num = f" ({len(record.candidates)} candidates)" if len(texts) > 1 else ""
    share = share_words(record.train_seconds, record.evaluation_seconds)
    training = "no training" if is_untrained(record) else f"{record.train_seconds:.0f} s"
    parts = [training, share, throughput_text(record)]
    time = ", ".join(part for part in parts if part)
    return f"{ended}: {' to '.join(texts)}{num}, {time}{further}"


def _ending(record: TrialRecord) -> str:
    """As "completed", or "stopped at 10 % of its steps, beaten by …"."""
    look = record.stopped_at
    if look is None or look.decision is None:
        return record.status
    return f"stopped at {look.share:.0%} of its steps, {look.decision.words}"


def candidate_text(candidate: Candidate, quality: str) -> str:
    """Its figure, or why there is none, and its size."""
    return f"{_quality_text(candidate, quality)}, {candidate.adapter_params:,} parameters"


def clock(seconds: float) -> str:
    """As "1:02:03", or "2:03" below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _quality_text(candidate: Candidate, name: str) -> str:
    if candidate.is_measured([name]):
        return f"{name} {figure_text(candidate.figure(name))}"
    judged = candidate.judged_by_loss
    why = "lm-evaluation-harness failed" if judged is None else judged.words
    return f"loss {figure_text(candidate.figures['loss'])} ({why})"
