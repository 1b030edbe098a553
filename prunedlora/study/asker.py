"""Asker: which trial comes next, and when the sweep has asked enough. Everything it knows is derived from the store.

Order: trials in flight from an earlier run, then baselines, then what the study asks for. An ask is written before
its trial is handed out, so a killed driver finds it again. The study is asked in a thread, as soon as it may be, and
whoever hands out trials does not wait for the sampler while any trial is out.

Killed + resumed = uninterrupted (one slot). With one slot two trials are out at once, one training and one waiting, so
each ask is made when the last but one has ended and the last has not. Whether the last one's record is there already
is a matter of milliseconds, so it does not count: what the study is told is decided by the numbers of the asks alone.
"""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from prunedlora.background import in_background
from prunedlora.config.identity import trial_key
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import Planner
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.results.warm_start_document import read_warm_start
from prunedlora.study.ask_writer import FOREVER, AskWriter
from prunedlora.study.asked import REPEATED, Asked, is_trial, too_large_problem
from prunedlora.study.handed_out import HandedOut
from prunedlora.study.size_limits import too_large_params

if TYPE_CHECKING:
    from prunedlora.study.search import Search


class Asker:
    """Hands out trials and takes back what became of them; for one thread, but for `close` and the counts.

    `retry_failed`: failed trials of earlier runs are run again. Raises RecordError when the store is broken.
    """

    def __init__(self, config: SweepConfig, store: Store, *, num_slots: int = 1, retry_failed: bool = False) -> None:
        self.num_slots = num_slots
        """Slots that serve now, at least one; may be set at any time, from any thread. What is said of one slot holds
        for one from beginning to end."""
        self._planner: Planner | None = None
        self.problems: list[str] = []
        """What went wrong beside the trials."""
        self._store = store
        self._asked = Asked(store.asks(), config.space, config.num_trials)
        records = {record.key: record for record in store.records()}
        if retry_failed:
            records = {key: record for key, record in records.items() if record.status != "failed"}
        self._writer = AskWriter(store)
        self._config = config
        self._search: Search | None = None
        if self._asked.ends_too_large:
            self.problems.append(too_large_problem(self._asked, config.constraints))
        self._asking: Future[Ask | None] | None = None
        ran = [ask for ask in self._asked.asks if is_trial(ask)]
        self._handed = HandedOut(store, self._writer, ran, records, self.problems)
        self._records = self._handed.records
        self.num_kept = len(ran) - len(self._handed.waiting)
        """Trials of earlier runs that have a record and are not run again."""
        self.num_resumed = len(self._handed.waiting)
        """Trials asked in earlier runs that have still to end."""
        labelled = zip(config.baseline_trials(), config.baseline_labels(), strict=True)
        fresh = {trial_key(trial): (trial, label) for trial, label in labelled}
        self._labels = {key: label for key, (_, label) in fresh.items() if label is not None}
        asked = {ask.key for ask in self._asked.asks if ask.kind == "baseline"}
        self._baselines = deque(baseline for key, baseline in fresh.items() if key not in asked)

    @property
    def planner(self) -> Planner | None:
        """Sizes of candidates, where they are known before training; to be set before the first `next`. From then on
        what cannot keep the sweep's constraints is not left to be tried of a finite space."""
        return self._planner

    @planner.setter
    def planner(self, planner: Planner | None) -> None:
        self._planner = planner
        if planner is not None and self._config.constraints:
            config = self._config
            self._asked.leave_out(too_large_params(planner, config.trial, config.space, config.constraints))

    def relabel(self, epoch: int) -> None:
        """Trials of earlier runs that the file names, or names otherwise now, get that name; `epoch`: the driver's."""
        for key, label in self._labels.items():
            record = self._records.get(key)
            if record is None and all(ask.key != key for ask in self._handed.waiting):
                continue  # not asked yet
            if record is None or record.label != label:
                self._store.write_label(key, label)
            if record is not None and record.label != label:
                self._records[key] = record.model_copy(update={"label": label})
                self._store.write_record(self._records[key], epoch)

    @property
    def asks(self) -> list[Ask]:
        """All so far, in the order of their numbers."""
        return list(self._asked.asks)

    @property
    def records(self) -> list[TrialRecord]:
        """Of the trials that have one and are not run again, as far as it has been read."""
        return list(self._records.values())

    @property
    def num_concurrent(self) -> int:
        """Trials out at once: one in every slot and one that waits, so that no slot does."""
        return self.num_slots + 1

    @property
    def num_configurations(self) -> int | None:
        """Configurations of the space; None when they are not finitely many, or too many to list."""
        return self._asked.num_configurations

    @property
    def num_repeats(self) -> int:
        """Asks of the search, of all runs, for what had been asked for or recorded before; they count as no trials."""
        return self._asked.num_repeats

    @property
    def num_left(self) -> int:
        """Trials that have still to end, at most (an ask may turn out to be a repeat)."""
        return self._handed.num_left + len(self._baselines) + self._asked.num_left

    @property
    def exhausted(self) -> bool:
        """Whether the search ended before `num_trials`, since there is nothing new left to try."""
        return self._asked.exhausted

    @property
    def num_left_out(self) -> int:
        """Configurations of a finite space that are not tried, since they cannot keep the sweep's constraints."""
        return self._asked.num_left_out

    @property
    def asking(self) -> bool:
        """Whether the study is being asked, so that `next` may have a trial in a moment."""
        return self._asking is not None

    @property
    def finished(self) -> bool:
        """Whether nothing more will be handed out: a trial that is out may have to be handed out again."""
        return not (self._handed.num_left or self._baselines or self._asked.num_left) and self._asking is None

    def stop(self) -> None:
        """Ends it for this run, from any thread and at once: nothing more is handed out, and no write is begun.

        Trials that end without a record are paused, and stay in flight.
        """
        self._writer.stop()

    def close(self, timeout: float = FOREVER) -> bool:
        """As `stop`, and from the return on no ask is written. Waits up to `timeout` seconds for one that is being
        written; False when that went on."""
        return self._writer.close(timeout)

    def next(self) -> Ask | None:
        """The next trial to run; None when there is none now (`finished` says whether there will be).

        Waits for the study only when no trial is out: there is nothing else to do then. Raises StoreError when the
        storage stays out of reach, or another driver writes asks.
        """
        if (again := self._handed.again()) is not None:
            return self._hand_out(again)
        while self._baselines and not self._writer.closed:
            baseline = self._write_baseline(*self._baselines.popleft())
            if baseline is not None and is_trial(baseline):
                return self._hand_out(baseline)
        self._begin()
        if self._asking is None or (self._handed.out and not self._asking.done()):
            return None
        asking, self._asking = self._asking, None
        found = asking.result()
        return None if found is None else self._hand_out(found)

    def end(self, number: int) -> TrialRecord | None:
        """Takes a trial back; its record, or None when it has none.

        Once closed such a trial is paused. Before, what ended it left no record that can be seen from here (its proxy
        died, a file system shows new files late): after another look it is handed out again, MOST_LOST times at most.
        """
        record = self._handed.end(number)
        self._begin()
        return record

    def note(self, record: TrialRecord) -> None:
        """A trial that had a record, and was not out, has another one: it went on. The study is told nothing of it."""
        self._records[record.key] = record

    def _write_baseline(self, trial: TrialConfig, label: str | None) -> Ask | None:
        key = trial_key(trial)
        repeated = key in self._asked or key in self._records
        part: dict[str, Any] = {
            "params": {},
            "distributions": {},
            "system_attrs": {REPEATED: True} if repeated else {},
        }
        return self._writer.write(
            self._asked, key, None if repeated else trial, part, kind="baseline", label=None if repeated else label
        )

    def _hand_out(self, ask: Ask) -> Ask:
        self._handed.out[ask.number] = ask
        self._begin()
        return ask

    def _begin(self) -> None:
        """Has the study asked for the next trial, if one is due and the study may know by now what it must."""
        due = not self._handed.waiting and not self._baselines and len(self._handed.out) < self.num_concurrent
        if due and self._asking is None and self._asked.num_left and not self._writer.closed:
            visible = self._visible()
            if visible is not None:
                concurrent = self.num_concurrent
                # Left behind when the process ends: what it has not written by then is asked again.
                self._asking = in_background(lambda: self._ask(visible, concurrent), "asking")

    def _ask(self, visible: Mapping[str, TrialRecord], num_concurrent: int) -> Ask | None:
        """In a thread of its own, never two at once."""
        if self._search is None:
            # Here: it takes Optuna, which a sweep of baselines alone does without (sweep/run_here.py).
            from prunedlora.study.search import Search

            memory = read_warm_start(self._store)
            self._search = Search(self._config, self._asked, self._writer, self.problems, self.planner, memory)
        return self._search.next(visible, num_concurrent=num_concurrent)

    def _visible(self) -> dict[str, TrialRecord] | None:
        """The records that the study may know; None while a trial that it must know has not ended."""
        ran = self._asked.ran
        hidden: set[str] = set()
        if self.num_slots == 1:
            hidden = set(ran[-1:])
            if any(key not in self._records and key not in hidden | self._handed.given_up for key in ran):
                return None
        return {key: record for key, record in self._records.items() if key not in hidden}
