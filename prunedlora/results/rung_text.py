"""Where on its training a candidate was made, in words: on which rung of the ladder, and whether it was cut there; and
which ones a trial left."""

from prunedlora.results.record import Candidate, Cut, TrialRecord

MOST_LEFT = 10
"""Candidates that a sentence names."""


def num_rungs(record: TrialRecord) -> int | None:
    """Rungs after the trunk of the trial's ladder; None where it has none."""
    found = record.config
    for name in ("pruning", "schedule", "rungs"):
        part = found.get(name)
        if not isinstance(part, dict):
            return None
        found = part
    return next((len(sizes) for sizes in found.values() if isinstance(sizes, list)), None)


def rung_text(record: TrialRecord, candidate: Candidate) -> str:
    """In a few characters, for tables: "original", "trunk", "3/5", "3/5 cut", "cut"; empty for one that is neither."""
    if candidate.is_original:
        return "original"
    parts = []
    if candidate.rung is not None and candidate.step > 0:  # what is cut from the original is on no rung yet
        total = num_rungs(record)
        parts.append("trunk" if candidate.rung == 0 else str(candidate.rung) + ("" if total is None else f"/{total}"))
    return " ".join([*parts, *(["cut"] if candidate.cut is not None else [])])


def made_text(record: TrialRecord, candidate: Candidate) -> str:
    """How it was made, as the middle of a sentence: "rung 3 of a ladder of 5", "cut without training from rung 3 of a
    ladder of 5 (`a1b2@180`, 27,264 parameters) to at most 13,000 parameters, by svd, allocation uniform", "the adapter
    that it began with"; empty for what is none of these."""
    where = _where(record, candidate)
    if candidate.cut is None:
        return where
    origins = [one for one in record.candidates if one.step == candidate.step and one.cut is None]
    named = "".join(f" (`{record.key}@{one.name}`, {one.adapter_params:,} parameters)" for one in origins)
    return f"cut without training from {where or f'step {candidate.step:,}'}{named} {cut_text(candidate.cut)}"


def left_text(record: TrialRecord) -> str:
    """What a trial has on record: "2 candidates: 60, 120", by name; empty where it is nothing."""
    names = [candidate.name for candidate in record.candidates]
    if not names:
        return ""
    more = f" and {len(names) - MOST_LEFT:,} more" if len(names) > MOST_LEFT else ""
    return f"{len(names):,} candidate{'s' * (len(names) > 1)}: {', '.join(names[:MOST_LEFT])}{more}"


def cut_text(cut: Cut) -> str:
    """What it was cut to, and how: "to at most 6,500 parameters, by svd, allocation global_per_parameter"."""
    size = {
        "parameters": f"at most {cut.size:,.12g} parameters",
        "mean_rank": f"{'rank' if cut.allocation == 'uniform' else 'mean rank'} {cut.size:g}",
        "kept": f"{100 * cut.size:g}% of what there was at the start",
    }[cut.unit]
    return f"to {size}, by {cut.basis}, allocation {cut.allocation}"


def _where(record: TrialRecord, candidate: Candidate) -> str:
    if candidate.step == 0:
        return "the adapter that it began with"
    if candidate.rung is None:
        return ""
    total = num_rungs(record)
    ladder = "a ladder" if total is None else f"a ladder of {total}"
    place = f"the trunk of {ladder}" if candidate.rung == 0 else f"rung {candidate.rung} of {ladder}"
    if candidate.branch_steps is None:
        return place
    return f"{place} (made by a branch of {candidate.branch_steps:,} steps in which the learning rate fell)"
