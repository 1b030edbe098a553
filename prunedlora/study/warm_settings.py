"""Settings of earlier trials in terms of a sweep's space, or why that has none for them."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from prunedlora.config.corners import applies, ask_order
from prunedlora.config.space import Choice, IntRange, LogInt, LogUniform, SpaceEntry, Uniform
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.recorded_settings import flat
from prunedlora.study.listed_configurations import choice_options


class NoSettingError(ValueError):
    """A trial that this space has no setting for; the message is the end of "left out: 3 with …"."""


class Translation:
    """From trials of one earlier sweep to parameters of this one.

    Each entry of the space has the value that the trial had there, searched or of its base: an entry that the earlier
    sweep did not search has its base's. What the trial had beyond the space does not count where it is the same in the
    whole earlier sweep (another task, model, number of steps); where trials differ in it, the trial must have this
    sweep's value.
    """

    def __init__(self, config: SweepConfig, base: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]) -> None:
        """`base`, `trials`: of the earlier sweep, as its sweep.yaml and records have them."""
        self._config = config
        self._ours = flat(config.trial.model_dump(mode="json"))
        self._order = ask_order(config.space)
        its, flats = flat(base), [flat(trial) for trial in trials]
        self._varying = {
            path
            for path in {path for each in flats for path in each}
            if len({repr(each.get(path)) for each in flats}) > 1
            and any(path in each and each[path] != its.get(path) for each in flats)
        }
        self._its = its

    def params(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as Optuna has them. Raises NoSettingError."""
        try:
            tree = TrialConfig.model_validate(trial).model_dump(mode="json")
        except ValidationError:
            raise NoSettingError("settings that this version does not know") from None
        values: dict[str, Any] = {}
        params: dict[str, Any] = {}
        for path in self._order:
            entry = self._config.space[path]
            if applies(entry, values):
                values[path], param = _found(path, entry, tree)
                if param is not None:
                    params[path] = param[0]
        for path, value in flat(trial).items():
            differs = path in self._varying and value != self._its.get(path) and value != self._ours.get(path)
            if differs and not any(path == own or path.startswith(f"{own}.") for own in values):
                raise NoSettingError(f"another {path} than this sweep's {self._ours.get(path)!r}")
        try:
            trial_with(self._config.trial, values)
        except ValidationError:
            raise NoSettingError("settings that make no trial of this sweep") from None
        return params


def _found(path: str, entry: SpaceEntry, tree: Mapping[str, Any]) -> tuple[Any, tuple[Any] | None]:
    """The entry's value that a trial has, and what Optuna has for it (None: it is not searched)."""
    node: Any = tree
    for name in path.split("."):
        if not isinstance(node, Mapping) or name not in node:
            raise NoSettingError(f"no {path}")
        node = node[name]
    outside = NoSettingError(f"{path} outside of this space")
    match entry:
        case Choice():
            for option, param in zip(entry.choice, choice_options(entry), strict=True):
                if _is(option, node):
                    return option, (param,)
            raise outside
        case Uniform() | LogUniform():
            low, high = entry.uniform if isinstance(entry, Uniform) else entry.log_uniform
            if not _is_number(node) or not low <= node <= high:
                raise outside
            return float(node), (float(node),)
        case IntRange() | LogInt():
            if not _is_number(node) or node not in entry.values():
                raise outside
            return int(node), (int(node),)
        case _:
            if not _is(entry.value, node):
                raise outside
            return entry.value, None


def _is(option: Any, value: Any) -> bool:
    """Whether a trial's value is this option of a file, which may leave fields of a section to their defaults."""
    if isinstance(option, Mapping):
        return isinstance(value, Mapping) and all(
            name in value and _is(inner, value[name]) for name, inner in option.items()
        )
    return isinstance(option, bool) == isinstance(value, bool) and bool(option == value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
