"""How fast trainings went through their tokens, and how much of what they computed was padding, in words."""

from collections.abc import Sequence

from prunedlora.results.record import TrialRecord

MOST_NAMED = 3
"""Trainings that have figures of their own in the sentence."""


def throughput_text(record: TrialRecord) -> str:
    """ "1,234 tokens/s, 8% padding" of one training; empty where its record does not say."""
    if record.tokens_per_second is None or record.padding_share is None:
        return ""
    return f"{_speed(record.tokens_per_second)} tokens/s, {record.padding_share:.0%} padding"


def throughputs_text(records: Sequence[TrialRecord]) -> str:
    """The same of all trainings that say: of a few each by its key, of many the range. Empty where none does."""
    known = [record for record in records if record.tokens_per_second is not None and record.padding_share is not None]
    if len(known) <= MOST_NAMED:
        return "; ".join(f"{record.key} {throughput_text(record)}" for record in known)
    speeds = sorted(record.tokens_per_second or 0.0 for record in known)
    shares = sorted(record.padding_share or 0.0 for record in known)
    speed = _range(_speed(speeds[0]), _speed(speeds[-1]))
    padding = _range(f"{shares[0]:.0%}", f"{shares[-1]:.0%}")
    return f"{speed} tokens/s, {padding} padding in {len(known):,} trainings"


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _speed(tokens_per_second: float) -> str:
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 10 else f"{tokens_per_second:.2g}"
