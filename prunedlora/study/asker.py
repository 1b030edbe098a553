"""Asker: which trial comes next, and when the sweep has asked enough. Everything it knows is derived from the store.

Order: trials in flight from an earlier run, then baselines, then what the study asks for. An ask is written before
its trial is handed out, so a killed driver finds it again.

Killed + resumed = uninterrupted (one slot). With one slot two trials are out at once, one training and one waiting, so
each ask is made when the last but one has ended and the last has not. Whether the last one's record is there already
is a matter of milliseconds, so it does not count: what the study is told is decided by the numbers of the asks alone.
"""

import time
from collections import deque
from typing import Any, Literal

from pydantic import ValidationError

from prunedlora.config.identity import trial_key
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.study.rebuild import propose

MOST_REPEATS = 20
RETRY_SECONDS = (1.0, 5.0, 20.0)
REPEATED = "prunedlora:repeated"
"""System attribute of an ask whose configuration had been asked or recorded before: it counts, but nothing is run."""


class AskError(ValueError):
    """An ask of the study that is no valid trial, which none that was checked before showed; the message names it."""


class Asker:
    """Hands out trials and takes back what became of them.

    `retry_failed`: failed trials of earlier runs are run again. Raises RecordError when the store is broken.
    """

    def __init__(self, config: SweepConfig, store: Store, *, num_slots: int = 1, retry_failed: bool = False) -> None:
        self.num_slots = num_slots
        """May be set until the first trial is handed out."""
        self._config = config
        self._store = store
        self._asks = store.asks()
        self._records = {record.key: record for record in store.records()}
        if retry_failed:
            self._records = {key: record for key, record in self._records.items() if record.status != "failed"}
        first = {ask.key: ask for ask in reversed(self._asks)}
        self._waiting = deque(sorted((a for k, a in first.items() if k not in self._records), key=lambda a: a.number))
        self._out: dict[int, Ask] = {}
        self.num_kept = len(first) - len(self._waiting)
        """Trials of earlier runs that have a record and are not run again."""
        self.num_resumed = len(self._waiting)
        """Trials asked in earlier runs that have still to end."""
        labelled = zip(config.baseline_trials(), config.baseline_labels(), strict=True)
        fresh = {trial_key(trial): (trial, label) for trial, label in labelled}
        self._labels = {key: label for key, (_, label) in fresh.items() if label is not None}
        asked = {ask.key for ask in self._asks if ask.kind == "baseline"}
        self._baselines = deque(baseline for key, baseline in fresh.items() if key not in asked)

    def relabel(self, epoch: int) -> None:
        """Trials of earlier runs that the file names, or names otherwise now, get that name; `epoch`: the driver's."""
        for key, label in self._labels.items():
            record = self._records.get(key)
            if record is None and all(ask.key != key for ask in self._waiting):
                continue  # not asked yet
            if record is None or record.label != label:
                self._store.write_label(key, label)
            if record is not None and record.label != label:
                self._records[key] = record.model_copy(update={"label": label})
                self._store.write_record(self._records[key], epoch)

    @property
    def records(self) -> list[TrialRecord]:
        """Of the trials that have one and are not run again, as far as it has been read."""
        return list(self._records.values())

    @property
    def num_concurrent(self) -> int:
        """Trials out at once: one in every slot and one that waits, so that no slot does."""
        return self.num_slots + 1

    @property
    def num_left(self) -> int:
        """Trials that have still to end, at most (an ask may turn out to be a repeat)."""
        return len(self._waiting) + len(self._out) + len(self._baselines) + self._num_asks_left()

    @property
    def exhausted(self) -> bool:
        """Whether the last MOST_REPEATS asks of the study were all repeats."""
        last = [ask for ask in self._asks if ask.kind == "search"][-MOST_REPEATS:]
        return len(last) == MOST_REPEATS and all(REPEATED in ask.system_attrs for ask in last)

    @property
    def finished(self) -> bool:
        """Whether nothing more will be handed out."""
        return not self._waiting and not self._baselines and not self._num_asks_left()

    def next(self) -> Ask | None:
        """The next trial to run; None when there is none now (`finished` says whether there will be)."""
        if self._waiting:
            return self._hand_out(self._waiting.popleft())
        while self._baselines:
            nothing: dict[str, Any] = {"params": {}, "distributions": {}, "system_attrs": {}}
            trial, label = self._baselines.popleft()
            ask = self._write(trial, "baseline", nothing, label)
            if REPEATED not in ask.system_attrs:
                return self._hand_out(ask)
        while self._num_asks_left():
            told = self._told()
            if told is None:
                return None
            ask = self._ask_study(told)
            if REPEATED not in ask.system_attrs:
                return self._hand_out(ask)
        return None

    def end(self, number: int) -> TrialRecord | None:
        """Takes a trial back; its record, or None when it has none (paused: it stays in flight)."""
        ask = self._out.pop(number)
        record = self._read_record(ask.key)
        if record is not None:
            self._records[ask.key] = record
        return record

    def _read_record(self, key: str) -> TrialRecord | None:
        """A moment's trouble with the storage must not end a sweep."""
        for seconds in RETRY_SECONDS:
            try:
                return self._store.read_record(key)
            except StoreError:
                time.sleep(seconds)
        return self._store.read_record(key)

    def _hand_out(self, ask: Ask) -> Ask:
        self._out[ask.number] = ask
        return ask

    def _num_asks_left(self) -> int:
        if self.exhausted:
            return 0
        return max(0, self._config.num_trials - sum(ask.kind == "search" for ask in self._asks))

    def _told(self) -> dict[int, TrialRecord] | None:
        """Ask number → record, as far as the study may know; None while a trial that it must know has not ended."""
        hidden: set[str] = set()
        if self.num_slots == 1:
            ran = [ask.key for ask in self._asks if REPEATED not in ask.system_attrs]
            hidden = set(ran[max(0, len(ran) - (self.num_concurrent - 1)) :])
            if any(ask.key not in self._records and ask.key not in hidden for ask in self._asks):
                return None
        visible = self._records.keys() - hidden
        return {ask.number: self._records[ask.key] for ask in self._asks if ask.key in visible}

    def _ask_study(self, told: dict[int, TrialRecord]) -> Ask:
        config = self._config
        values, part = propose(
            self._asks,
            told,
            space=config.space,
            objectives=config.objectives,
            sampler=config.sampler,
            seed=config.seed,
            num_concurrent=self.num_concurrent,
        )
        try:
            trial = trial_with(config.trial, values)
        except ValidationError as error:
            shown = ", ".join(f"{path}={value}" for path, value in values.items())
            raise AskError(
                f"the space allows {shown}, which is no trial: {error}; give another --storage with a narrower space"
            ) from error
        return self._write(trial, "search", part)

    def _write(
        self, trial: TrialConfig, kind: Literal["baseline", "search"], part: dict[str, Any], label: str | None = None
    ) -> Ask:
        key = trial_key(trial)
        if key in self._records or any(ask.key == key for ask in self._asks):
            part["system_attrs"][REPEATED] = True
        else:
            self._store.write_config(key, trial.model_dump(mode="json"))
            if label is not None:
                self._store.write_label(key, label)
        number = self._asks[-1].number + 1 if self._asks else 0
        ask = Ask(number=number, key=key, kind=kind, **part)
        self._store.write_ask(ask)
        self._asks.append(ask)
        return ask
