"""Baselines: trials that stand beside the search, each the fields that it replaces in the base, and maybe a label."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from prunedlora.config.trial import TrialConfig, trial_with

LABEL = "label"
"""Key of a baseline's name among the fields that it replaces."""


def without_label(baseline: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a baseline replaces."""
    return {path: value for path, value in baseline.items() if path != LABEL}


def label_problems(baselines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Labels that are no text, or else those of several baselines."""
    labels = [baseline[LABEL] for baseline in baselines if LABEL in baseline]
    if problems := [f"baselines: label {label!r} must be a text" for label in labels if not _is_text(label)]:
        return problems
    twice = sorted(label for label, count in Counter(labels).items() if count > 1)
    return [f"baselines: label {label!r} is given twice" for label in twice]


def same_trials(base: TrialConfig, baselines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Problem → where, for valid baselines of one configuration and two labels: a trial has one name."""
    problems: dict[str, str] = {}
    names: dict[str, str] = {}
    for i, baseline in enumerate(baselines):
        label = baseline.get(LABEL)
        trial = trial_with(base, without_label(baseline))
        first = names.setdefault(trial.model_dump_json(), label) if label is not None else None
        if first != label:
            problems[f"{label!r} is the same trial as {first!r}"] = f"baselines[{i}]"
    return problems


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
