"""One ask: the space gone through entry by entry, in an order in which every `when` is known."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import distribution_to_json

from prunedlora.config.corners import applies, ask_order
from prunedlora.config.space import Choice, IntRange, LogInt, LogUniform, SpaceEntry, Uniform, Value
from prunedlora.study.listed_configurations import choice_options


def suggest(trial: optuna.trial.BaseTrial, space: Mapping[str, SpaceEntry]) -> dict[str, Any]:
    """Field path → value for every entry that applies; fixed values of conditional entries included."""
    values: dict[str, Any] = {}
    for path in ask_order(space):
        if applies(space[path], values):
            values[path] = _suggest_entry(trial, path, space[path])
    return values


def _suggest_entry(trial: optuna.trial.BaseTrial, path: str, entry: SpaceEntry) -> Any:
    match entry:
        case Choice():
            options = choice_options(entry)
            return entry.choice[options.index(trial.suggest_categorical(path, options))]
        case Uniform():
            return trial.suggest_float(path, *entry.uniform)
        case LogUniform():
            return trial.suggest_float(path, *entry.log_uniform, log=True)
        case IntRange():
            return trial.suggest_int(path, *entry.bounds, step=entry.step)
        case LogInt():
            return trial.suggest_int(path, *entry.log_int, log=True)
        case Value():
            return entry.value


def fixed(params: Mapping[str, Any], space: Mapping[str, SpaceEntry]) -> tuple[dict[str, Any], dict[str, str]]:
    """(field path → value, parameter → distribution as an Ask has it) of parameters given as Optuna has them."""
    trial = optuna.trial.FixedTrial(dict(params))
    values = suggest(trial, space)
    return values, {name: distribution_to_json(d) for name, d in trial.distributions.items()}


def as_params(values: Mapping[str, Any], space: Mapping[str, SpaceEntry]) -> dict[str, Any]:
    """Field path → value as Optuna has it, of entries that are searched."""
    params = {}
    for path, value in values.items():
        entry = space[path]
        params[path] = choice_options(entry)[entry.choice.index(value)] if isinstance(entry, Choice) else value
    return params
