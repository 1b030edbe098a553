"""Whose data of a sweep are shown: those of its `trial`, or of a baseline; and who has others."""

from collections.abc import Iterator
from typing import Any

from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.results.recorded_settings import flat
from prunedlora.settings_error import SettingsError


def baseline_names(config: SweepConfig) -> list[str]:
    """What each baseline is called: its label, or its method; the number behind a name that several have."""
    names = [
        label or trial.method for label, trial in zip(config.baseline_labels(), config.baseline_trials(), strict=True)
    ]
    return [name if names.count(name) == 1 else f"{name}#{i}" for i, name in enumerate(names)]


def trial_of(config: SweepConfig, baseline: str | None) -> TrialConfig:
    """The sweep's `trial`, or that of a baseline. Raises SettingsError for a baseline that it does not have."""
    if baseline is None:
        return config.trial
    names = baseline_names(config)
    if baseline not in names:
        raise SettingsError(f"no baseline is called {baseline!r}; there are: {', '.join(map(repr, names)) or 'none'}")
    return config.baseline_trials()[names.index(baseline)]


def other_data(config: SweepConfig, baseline: str | None = None) -> Iterator[str]:
    """Who of the sweep has other data than the `trial_of` that is shown, or another tokenizer, and in which fields."""
    shown = _deciding(trial_of(config, baseline))
    trials = {"trial": config.trial, **dict(zip(baseline_names(config), config.baseline_trials(), strict=True))}
    for name, trial in trials.items():
        own = _deciding(trial)
        changed = [path for path in {**shown, **own} if shown.get(path) != own.get(path)]
        if changed:
            fields = ", ".join(f"{path}={own.get(path)}" for path in changed)
            yield f"trial: {fields}" if name == "trial" else f"baseline {name} (--baseline {name}): {fields}"
    for path, entry in config.space.items():
        if path == "model.name" or path.split(".")[0] == "data":
            first = entry.corners()[0]
            yield f"space: {path} from {', '.join(map(str, entry.corners()))} (--set trial.{path}={first})"


def _deciding(trial: TrialConfig) -> dict[str, Any]:
    sections = {"data": trial.data.model_dump(mode="json"), "model": {"name": trial.model.name}}
    return flat(sections)
