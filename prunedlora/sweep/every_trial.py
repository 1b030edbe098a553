"""The trials that a sweep names: its base, its baselines, and the corners of its space."""

import json
from collections.abc import Iterator

from prunedlora.config.corners import corners
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.registry import lookup
from prunedlora.sweep.size_checks import size_settings
from prunedlora.trial.planned_sizes import PLACES

BASE = ""
"""Name of the search's trainings among the baselines' names."""


def every_trial(config: SweepConfig) -> Iterator[TrialConfig]:
    """The base, the baselines, and every corner of the space."""
    return (trial for _, _, trial in _named(config))


def _named(config: SweepConfig) -> Iterator[tuple[str, str, TrialConfig]]:
    """The same, each with what it is called, the base and the corners BASE, a baseline by its label or method; and with
    where it comes from, for a message ("" for the base)."""
    yield BASE, "", config.trial
    for i, (label, trial) in enumerate(zip(config.baseline_labels(), config.baseline_trials(), strict=True)):
        yield label or trial.method, f"baselines[{i}]" + (f" ({label})" if label else ""), trial
    for values in corners(config.space):
        shown = ", ".join(f"{path}={value}" for path, value in values.items())
        yield BASE, f"space at {shown}", trial_with(config.trial, values)


def distinct_trials(config: SweepConfig) -> Iterator[tuple[str, str, TrialConfig]]:
    """The base, every corner of the space, and the baselines of every name, one for each different model, data,
    targets, length and method; as `_named`."""
    seen = set()
    for name, where, trial in _named(config):
        fields = [trial.model, trial.data, trial.training, trial.evaluation]
        adapter = trial.adapter and trial.adapter.model_dump(include=PLACES)
        own = lookup("method", trial.method).section
        settings = None if own is None else getattr(trial, own).model_dump()
        identity = json.dumps(
            [
                *(field.model_dump() for field in fields),
                trial.head_modules,
                adapter,
                own,
                settings,
                size_settings(trial),
                name,
                where == "",
            ]
        )
        if identity not in seen:
            seen.add(identity)
            yield name, where, trial
