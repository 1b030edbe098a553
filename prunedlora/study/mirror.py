"""The mirror of a sweep's study in an Optuna storage, in which optuna-dashboard and others see it. It follows from asks
and records alone, is never read to decide anything, and is made anew where it is lost or is not what it must be.

Two studies lie there. NAME: every trial that was asked for, one each, from the moment it was asked, with the values of
its last measured candidate (told `candidates` or `area`, of a stopped one as well: the search is told of all that it
left, which is several trials or an area there, and not shown); baselines, of which it is told nothing, without
parameters. NAME candidates: every adapter of every trial on record, a
completed trial each: its front is the sweep's.
"""

import datetime
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from prunedlora.config.mirror_url import AUTO
from prunedlora.config.sweep import SweepConfig, Telling
from prunedlora.results.analysis.served_size import objective_on
from prunedlora.results.ask import Ask
from prunedlora.results.record import Candidate, ObjectiveError, TrialRecord
from prunedlora.results.recorded_settings import method
from prunedlora.results.store import Store
from prunedlora.sizes import SIZES
from prunedlora.study.mirror_storage import OWNER, check_storage_of, opened
from prunedlora.study.rebuild import Direction, frozen

FILE = "optuna.db"
LOOK_SECONDS = 60.0
"""After this time a mirror of which nothing has changed is looked at again: it may be lost."""
NAME = "name"
"""User attribute of a trial that tells it from all others of its study."""
METRIC_NAMES = "study:metric_names"
"""System attribute of a study, Optuna's."""
OWN = "prunedlora:"
State = Callable[[], tuple[Sequence[Ask], Iterable[TrialRecord]]]


def address_of(config: SweepConfig, store: Store) -> str | None:
    """Where the sweep's study is mirrored; None: nowhere."""
    if config.mirror is None or config.num_trials == 0:
        return None
    if config.mirror != AUTO:
        return config.mirror
    return f"sqlite:///{store.uri}/{FILE}" if store.storage.is_local else None


def check_mirror(config: SweepConfig, store: Store) -> None:
    """Before the sweep starts; writes nothing. Raises MirrorError for an address that cannot be reached, or has a study
    of this name that is another's; the store's own file cannot be either."""
    if config.mirror != AUTO and (address := address_of(config, store)) is not None:
        check_storage_of(address, study_names(config.name), store.uri)


def study_names(sweep: str) -> tuple[str, str]:
    """Of the study of asks and that of candidates."""
    return sweep, f"{sweep} candidates"


class Mirror:
    """Follows a sweep; for one thread."""

    def __init__(self, config: SweepConfig, store: Store, address: str, state: State) -> None:
        """`state`: all asks so far and all records that are known, as any thread may ask for them."""
        self._objectives: Mapping[str, Direction] = config.objectives
        self._telling, self._serve_on = config.telling, config.serve_on
        self._names = study_names(config.name)
        self._store = store.uri
        self.address = address
        self._state = state
        self._written: tuple[int, dict[str, TrialRecord]] | None = None
        self._look_at = 0.0

    def update(self) -> None:
        """Writes what is new, or all of it where the mirror is lost or is another's. Raises MirrorError."""
        asks, found = self._state()
        records = {record.key: record for record in found}
        if self._written is not None and time.monotonic() < self._look_at:
            number, known = self._written
            if number == len(asks) and known.keys() == records.keys() and all(known[k] is records[k] for k in known):
                return
        objectives = list(self._objectives)
        wanted = (
            [*_asks(asks, records, objectives, self._telling, self._serve_on)],
            [*_candidates(asks, records, objectives, self._serve_on)],
        )
        with opened(self.address) as storage:
            for name, trials in zip(self._names, wanted, strict=True):
                self._write(storage, name, {trial.user_attrs[NAME]: trial for trial in trials})
        self._written, self._look_at = (len(asks), records), time.monotonic() + LOOK_SECONDS

    def _write(self, storage: BaseStorage, name: str, wanted: Mapping[str, FrozenTrial]) -> None:
        there: list[FrozenTrial] = []
        is_there = name in {study.study_name for study in storage.get_all_studies()}
        if is_there:
            study_id = storage.get_study_id_from_name(name)
            there = storage.get_all_trials(study_id, deepcopy=False)
            if not _fits(there, wanted):
                storage.delete_study(study_id)
                is_there, there = False, []
        if not is_there:
            self._create(storage, name)
        study_id = storage.get_study_id_from_name(name)
        present = {trial.user_attrs[NAME]: trial for trial in there}
        for key, trial in wanted.items():
            if key not in present:
                storage.create_new_trial(study_id, template_trial=trial)
            elif present[key].state is not trial.state:
                trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, present[key].number)
                for attribute, value in trial.user_attrs.items():
                    storage.set_trial_user_attr(trial_id, attribute, value)
                storage.set_trial_state_values(trial_id, trial.state, trial.values)

    def _create(self, storage: BaseStorage, name: str) -> None:
        directions = [StudyDirection[direction.upper()] for direction in self._objectives.values()]
        study_id = storage.create_new_study(directions, name)
        # As Study.set_metric_names does, which warns that it is experimental.
        storage.set_study_system_attr(study_id, METRIC_NAMES, [*self._objectives])
        storage.set_study_user_attr(study_id, OWNER, self._store)


def _fits(there: Iterable[FrozenTrial], wanted: Mapping[str, FrozenTrial]) -> bool:
    """Whether each trial that is there is one of those wanted, or is that as long as it has not ended."""
    names: list[Any] = []
    for trial in there:
        names.append(trial.user_attrs.get(NAME))
        its = wanted.get(names[-1])
        if its is None or trial.params != its.params:
            return False
        if trial.state is TrialState.RUNNING:
            continue
        # Attributes of others may stand beside ours: people add some.
        ours = {attribute: trial.user_attrs.get(attribute) for attribute in its.user_attrs}
        if (trial.state, trial.values, ours) != (its.state, its.values, its.user_attrs):
            return False
    return len(set(names)) == len(names)


def _asks(
    asks: Iterable[Ask],
    records: Mapping[str, TrialRecord],
    objectives: Collection[str],
    telling: Telling,
    serve_on: Sequence[str],
) -> Iterable[FrozenTrial]:
    for ask in asks:
        if ask.kind != "confirm":
            record = records.get(ask.key)
            trial = frozen(ask, record, objectives, telling, serve_on)
            marks = {name.removeprefix(OWN): value for name, value in ask.system_attrs.items() if name.startswith(OWN)}
            attributes = {NAME: f"ask {ask.number}", "key": ask.key, "kind": ask.kind} | marks
            yield _shown(trial, attributes | ({} if record is None else _of_record(record)), record)


def _candidates(
    asks: Iterable[Ask], records: Mapping[str, TrialRecord], objectives: Collection[str], serve_on: Sequence[str]
) -> Iterable[FrozenTrial]:
    shown: set[str] = set()
    for ask in asks:
        record = records.get(ask.key)
        if record is None or ask.kind == "confirm" or ask.key in shown:
            continue
        shown.add(ask.key)
        settings = frozen(ask, None, objectives)
        for candidate in record.candidates:
            try:
                values = [objective_on(record, candidate, name, serve_on) for name in objectives]
            except ObjectiveError:  # it stands on no front either
                continue
            trial = create_trial(params=settings.params, distributions=settings.distributions, values=values)
            named = {NAME: f"{record.key}@{candidate.name}", "label": record.label or method(record)}
            yield _shown(trial, named | _of_candidate(candidate), record)


def _of_record(record: TrialRecord) -> dict[str, Any]:
    said: dict[str, Any] = {"status": record.status, "label": record.label or method(record)}
    if record.failure is not None:
        said["failure"] = f"{record.failure.type}: {record.failure.message}"
    return said | {"candidates": {candidate.name: _of_candidate(candidate) for candidate in record.candidates}}


def _of_candidate(candidate: Candidate) -> dict[str, Any]:
    sizes = {name: getattr(candidate, name) for name in SIZES}
    figures = {name: figure.value for name, figure in candidate.figures.items()}
    return {"step": candidate.step, "progress": candidate.progress, "sizes": sizes, "figures": figures}


def _shown(trial: FrozenTrial, attributes: dict[str, Any], record: TrialRecord | None) -> FrozenTrial:
    """With these user attributes, without what its sampler remembers, and with times as far as they are known: it has
    ended by now, after as many seconds as it took."""
    now = datetime.datetime.now()
    seconds = 0.0 if record is None else record.train_seconds + (record.evaluation_seconds or 0.0)
    trial.datetime_start = now - datetime.timedelta(seconds=seconds)
    trial.datetime_complete = now if trial.state.is_finished() else None
    trial.user_attrs, trial.system_attrs = attributes, {}
    return trial
