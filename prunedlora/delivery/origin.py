"""Where a delivered adapter comes from: the one that its training began with, what that measured, and what was done."""

from collections.abc import Mapping
from typing import Any

from prunedlora.results.analysis.original import START_FACT
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import Candidate, Figure, TrialRecord


def origin_document(record: TrialRecord, candidate: Candidate, began: Mapping[str, Figure]) -> dict[str, Any] | None:
    """The same as plain JSON data; None for a fresh adapter. `original`: as it came, on the validation split; None
    where that was not measured. `began`: its figures on the test split, where it was measured there."""
    facts = record.environment.model.get(START_FACT)
    if not isinstance(facts, dict):
        return None
    original = _original(record)
    return {
        **facts,
        "steps": candidate.step,
        "original": original
        and {
            "candidate": f"{record.key}@{original.name}",
            "figures": {name: figure.model_dump() for name, figure in sorted(original.figures.items())},
            "test": {name: figure.model_dump() for name, figure in sorted(began.items())},
            "adapter_params": original.adapter_params,
            "max_rank": original.max_rank,
        },
    }


def origin_sentences(
    record: TrialRecord, candidate: Candidate, metric: str, test: Mapping[str, Figure], began: Mapping[str, Figure]
) -> str:
    """Which adapter the training began with, how this one was made of it, and what `metric` both have, on the test
    split too where both were measured there (`test`, and `began` the original), as sentences that follow; empty for a
    fresh one."""
    facts = record.environment.model.get(START_FACT)
    if not isinstance(facts, dict):
        return ""
    commit = f", revision {facts['revision']}" if "revision" in facts else ""
    if "start_from" not in facts:
        return f" Its layers began with the ranks of the adapter `{facts['rank_pattern_from']}`{commit}."
    named = f"the adapter `{facts['start_from']}`{commit}, sha256 {facts['sha256']}"
    original = _original(record)
    if original is None:
        return f" Its training continues {named}."
    if candidate.is_original:
        return f" It is {named}, as it came."
    return f" It was shrunk from {named}: {_how(candidate)}.{_beside(original, candidate, metric)}" + _tested(
        test, began, metric
    )


def _original(record: TrialRecord) -> Candidate | None:
    return next((candidate for candidate in record.candidates if candidate.is_original), None)


def _how(candidate: Candidate) -> str:
    if candidate.step == 0:
        return "cut alone, and not trained on"
    return f"trained on for {candidate.step:,} steps{'' if candidate.cut is None else ', then cut'}"


def _tested(test: Mapping[str, Figure], began: Mapping[str, Figure], metric: str) -> str:
    if metric not in test or metric not in began:
        return ""
    return f" On the test split it is {figure_text(began[metric])} beside {figure_text(test[metric])}."


def _beside(original: Candidate, candidate: Candidate, metric: str) -> str:
    if metric not in original.figures or metric not in candidate.figures:
        return ""  # of one of the two its loss was too bad for more to be measured
    times = original.adapter_params / candidate.adapter_params if candidate.adapter_params else 0.0
    smaller = f", {times:.3g} times fewer" if times >= 1.05 else ""
    return (
        f" On the validation split the original has {metric} {figure_text(original.figures[metric])} with "
        f"{original.adapter_params:,} parameters, and this one {figure_text(candidate.figures[metric])} with "
        f"{candidate.adapter_params:,}{smaller}."
    )
