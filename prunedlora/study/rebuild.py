"""The study, derived from the store: what Optuna is told of asks and records."""

import datetime
import hashlib
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from prunedlora.config.space import SpaceEntry
from prunedlora.config.sweep import Telling
from prunedlora.results.analysis.served_size import objective_on
from prunedlora.results.ask import Ask
from prunedlora.results.record import ObjectiveError, TrialRecord
from prunedlora.study.asked import INVALID, TOO_LARGE
from prunedlora.study.suggest import fixed

Direction = Literal["maximize", "minimize"]
_EPOCH = datetime.datetime(2000, 1, 1)  # Optuna wants a time; none of ours may reach a result.


def rebuild(
    asks: Sequence[Ask],
    told: Mapping[int, TrialRecord],
    objectives: Mapping[str, Direction],
    sampler: optuna.samplers.BaseSampler,
    telling: Telling = "last",
    serve_on: Sequence[str] = (),
) -> optuna.Study:
    """The study of all search asks, in order; those whose number is in `told` finished, all others running. One trial
    each, by `frozen`."""
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), directions=[*objectives.values()], sampler=sampler
    )
    for ask in asks:
        if ask.kind == "search":
            study.add_trial(frozen(ask, told.get(ask.number), list(objectives), telling, serve_on))
    return study


class _Quiet:
    """Verbosity and warnings are the process's: the first thread to come sets them, the last to leave resets them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._as_before = ExitStack()

    def enter(self) -> None:
        with self._lock:
            self._num_inside += 1
            if self._num_inside == 1:
                self._as_before.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
                optuna.logging.set_verbosity(optuna.logging.WARNING)
                self._as_before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

    def leave(self) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._as_before.close()


_QUIET = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's line for every study, and its warnings that something is experimental."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


def ask_seed(seed: int, number: int, again: int = 0) -> int:
    """Seed of the sampler for one ask: 32 bits of a hash of the sweep's seed and the ask's number; `again`: of so many
    suggestions before, none of which was taken."""
    text = f"sampler:{seed}:{number}" + (f":{again}" if again else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def objective_values(record: TrialRecord, objectives: Collection[str], serve_on: Sequence[str] = ()) -> list[float]:
    """What a completed trial is told as: its last trained candidate that has the objectives, in their order. The last
    of all has, but on a ladder whose last rungs were judged by their loss (trial/worth.py). Sizes are as the servers of
    `serve_on` need them (served_size.py).

    A trial of method svd has truncations after that one, of which the last is its smallest and worst: the settings that
    are searched made the training, and what it is told as must not hang on the list of ranks to cut it to. Raises
    ObjectiveError when an objective has no value.
    """
    told = record.last_measured(objectives)
    if told is None:
        raise ObjectiveError(f"trial {record.key} has no candidate that is as it was trained and has all figures")
    return [objective_on(record, told, name, serve_on) for name in objectives]


def frozen(
    ask: Ask,
    record: TrialRecord | None,
    objectives: Collection[str],
    telling: Telling = "last",
    serve_on: Sequence[str] = (),
) -> FrozenTrial:
    """An ask as one trial of the sweep's objectives; without a record it is running, or pruned when it is no trial at
    all.

    `serve_on`: servers that sizes are for (served_size.py). Told `last` the study holds it so. Told otherwise the study
    learns from what a stopped run left, too: here it is completed by its last measured candidate, as far as it got.
    """
    if record is None or INVALID in ask.system_attrs or TOO_LARGE in ask.system_attrs:
        return trial_of(ask, unended(ask))
    if telling != "last" and record.status == "stopped" and record.last_measured(objectives) is not None:
        with suppress(ObjectiveError):
            return trial_of(ask, TrialState.COMPLETE, objective_values(record, objectives, serve_on))
    state, values = outcome(record, objectives, serve_on)
    return trial_of(ask, state, values)


def unended(ask: Ask) -> TrialState:
    """State of an ask that has no record."""
    never = INVALID in ask.system_attrs or TOO_LARGE in ask.system_attrs
    return TrialState.PRUNED if never else TrialState.RUNNING


def trial_of(
    ask: Ask,
    state: TrialState,
    values: Sequence[float] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    constraints: Mapping[str, float] | None = None,
) -> FrozenTrial:
    """A trial that an ask made; of the ask's parameters unless others are given, which it must have."""
    return _trial(
        ask.params if params is None else params,
        {name: distribution_of(text) for name, text in ask.distributions.items()},
        state,
        values,
        system_attrs=dict(ask.system_attrs),
        constraints=None if constraints is None else dict(constraints),
    )


@lru_cache(maxsize=1024)
def distribution_of(text: str) -> BaseDistribution:
    """The distribution that an Ask has as text: one object for all asks, of which there may be thousands."""
    return json_to_distribution(text)


def earlier_trial(params: Mapping[str, Any], values: Sequence[float], space: Mapping[str, SpaceEntry]) -> FrozenTrial:
    """A completed trial of these parameters of the space, of which there is no ask."""
    _, distributions = fixed(params, space)
    found = {name: distribution_of(text) for name, text in distributions.items()}
    return _trial(params, found, TrialState.COMPLETE, values)


def _trial(
    params: Mapping[str, Any],
    distributions: dict[str, BaseDistribution],
    state: TrialState,
    values: Sequence[float] | None,
    system_attrs: dict[str, Any] | None = None,
    constraints: dict[str, float] | None = None,
) -> FrozenTrial:
    # create_trial gives a finished trial its times by itself; the state is set afterwards for all alike.
    trial = create_trial(
        state=TrialState.FAIL,
        params=dict(params),
        distributions=distributions,
        system_attrs=system_attrs,
        constraints=constraints,
    )
    trial.state, trial.values = state, None if values is None else list(values)
    trial.datetime_start = _EPOCH
    trial.datetime_complete = None if state is TrialState.RUNNING else _EPOCH
    return trial


def outcome(
    record: TrialRecord, objectives: Collection[str], serve_on: Sequence[str] = ()
) -> tuple[TrialState, list[float] | None]:
    """What the study is told of a trial: how it ended, and its values if it completed, sizes as the servers need it.

    PRUNED, without intermediate values, is what its own settings ruined (fault "trial", which the table of
    trial/failures.py gives to what it judges: not finite, no single example fits) or a rule stopped:
    TPE counts it among the bad and keeps away. So is a training of which no candidate was worth its answers: each was
    clearly beaten in loss by one that is no larger. FAIL teaches nothing: what node, storage or user failed at,
    failures of older records that do not say whose they are, and a completed trial without a value of an objective.
    """
    if record.status == "stopped" or (record.failure is not None and record.failure.fault == "trial"):
        return TrialState.PRUNED, None
    if record.failure is not None:
        return TrialState.FAIL, None
    if record.last_trained is not None and record.last_measured(objectives) is None:
        return TrialState.PRUNED, None
    try:
        return TrialState.COMPLETE, objective_values(record, objectives, serve_on)
    except ObjectiveError:
        return TrialState.FAIL, None
