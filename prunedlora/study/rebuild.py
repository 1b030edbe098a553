"""The study, derived from the store: asks and records in, the next ask out.

Nothing is remembered between asks: for each one the study is built anew from what is stored, and the sampler is made
with a seed of that ask alone. So a driver that was killed and one that never was propose the same.
"""

import datetime
import hashlib
import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from prunedlora.config.space import SpaceEntry
from prunedlora.registry import lookup
from prunedlora.results.ask import Ask
from prunedlora.results.record import ObjectiveError, TrialRecord
from prunedlora.study.suggest import suggest

Direction = Literal["maximize", "minimize"]
_EPOCH = datetime.datetime(2000, 1, 1)  # Optuna wants a time; none of ours may reach a result.


def rebuild(
    asks: Sequence[Ask],
    told: Mapping[int, TrialRecord],
    objectives: Mapping[str, Direction],
    sampler: optuna.samplers.BaseSampler,
) -> optuna.Study:
    """The study of all search asks, in order; those whose number is in `told` finished, all others running."""
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), directions=[*objectives.values()], sampler=sampler
    )
    for ask in asks:
        if ask.kind == "search":
            study.add_trial(_frozen(ask, told.get(ask.number), list(objectives)))
    return study


def propose(
    asks: Sequence[Ask],
    told: Mapping[int, TrialRecord],
    *,
    space: Mapping[str, SpaceEntry],
    objectives: Mapping[str, Direction],
    sampler: str,
    seed: int,
    num_concurrent: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next ask: (field path → value, what an Ask must hold of it: params, distributions, system_attrs)."""
    num_asked = sum(ask.kind == "search" for ask in asks)
    made = lookup("sampler", sampler)(seed=ask_seed(seed, num_asked), num_concurrent=num_concurrent)
    with quiet():
        study = rebuild(asks, told, objectives, made)
        values = suggest(study.ask(), space)
    trial = study.get_trials(deepcopy=False)[-1]
    return values, {
        "params": dict(trial.params),
        "distributions": {name: distribution_to_json(d) for name, d in trial.distributions.items()},
        "system_attrs": json.loads(json.dumps(trial.system_attrs, allow_nan=False)),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's line for every study, and its warnings that something is experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def ask_seed(seed: int, number: int) -> int:
    """Seed of the sampler for one ask: 32 bits of a hash of the sweep's seed and the ask's number."""
    return int.from_bytes(hashlib.sha256(f"sampler:{seed}:{number}".encode()).digest()[:4], "big")


def objective_values(record: TrialRecord, objectives: Collection[str]) -> list[float]:
    """What a completed trial is told as: its last trained candidate, in the order of the objectives.

    A trial of method svd has truncations after that one, of which the last is its smallest and worst: the settings that
    are searched made the training, and what it is told as must not hang on the list of ranks to cut it to. Raises
    ObjectiveError when an objective has no value.
    """
    told = record.last_trained
    if told is None:
        raise ObjectiveError(f"trial {record.key} has no candidate that is as it was trained")
    return [told.objective(name) for name in objectives]


def _frozen(ask: Ask, record: TrialRecord | None, objectives: Collection[str]) -> FrozenTrial:
    state, values, attrs = (TrialState.RUNNING, None, {}) if record is None else _outcome(record, objectives)
    trial = create_trial(
        # create_trial gives a finished trial its times by itself; the state is set afterwards for all alike.
        state=TrialState.FAIL,
        params=dict(ask.params),
        distributions={name: json_to_distribution(text) for name, text in ask.distributions.items()},
        system_attrs=dict(ask.system_attrs),
        user_attrs=attrs,
    )
    trial.state, trial.values = state, values
    trial.datetime_start = _EPOCH
    trial.datetime_complete = None if state is TrialState.RUNNING else _EPOCH
    return trial


def _outcome(record: TrialRecord, objectives: Collection[str]) -> tuple[TrialState, list[float] | None, dict[str, Any]]:
    if record.status == "stopped":
        return TrialState.PRUNED, None, {}
    if record.failure is not None:
        return TrialState.FAIL, None, {"reason": f"{record.failure.type}: {record.failure.message}"}
    try:
        return TrialState.COMPLETE, objective_values(record, objectives), {}
    except ObjectiveError as error:
        return TrialState.FAIL, None, {"reason": str(error)}
