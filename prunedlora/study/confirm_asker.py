"""ConfirmAsker: which training of a confirmation comes next. Everything it knows is derived from plan and records.

Nothing of a sweep is asked for: what it has in flight stays so, and the study neither counts nor is told these trials.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prunedlora.config.trial import TrialConfig
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.ask_writer import FOREVER, AskWriter
from prunedlora.study.asked import Asked
from prunedlora.study.handed_out import HandedOut


class ConfirmAsker:
    """As `asker.Asker`, for whoever hands out trials."""

    num_repeats = 0

    def __init__(
        self,
        store: Store,
        trials: Mapping[str, TrialConfig],
        wanted: Callable[[Sequence[TrialRecord]], Sequence[str]],
        *,
        num_slots: int = 1,
    ) -> None:
        """`trials`: key → configuration of every training that is planned. `wanted`: of all records the keys of those
        that are known to be needed by now, asked anew whenever all of these have ended. Raises RecordError."""
        self.num_slots = num_slots
        """Slots that serve now, at least one; may be set at any time, from any thread."""
        self.problems: list[str] = []
        self._trials = trials
        self._wanted = wanted
        self._asked = Asked(store.asks(), {}, 0)
        self._writer = AskWriter(store)
        records = {record.key: record for record in store.records()}
        ours = [ask for ask in self._asked.asks if ask.kind == "confirm" and ask.key in trials]
        self._handed = HandedOut(store, self._writer, ours, records, self.problems)
        self.num_kept = sum(key in records for key in trials)
        self.num_resumed = len(self._handed.waiting)
        self._due: deque[str] = deque()
        self._look()

    @property
    def records(self) -> list[TrialRecord]:
        """Of the plan's trainings that have ended."""
        return [record for key, record in self._handed.records.items() if key in self._trials]

    @property
    def num_concurrent(self) -> int:
        """Trials out at once: one in every slot and one that waits, so that no slot does."""
        return self.num_slots + 1

    @property
    def num_left(self) -> int:
        """Trials that have still to end, at most: all that are planned, while any of them is wanted."""
        if not (self._handed.num_left or self._due):
            return 0
        return sum(key not in self._handed.records for key in self._trials)

    @property
    def finished(self) -> bool:
        """Whether nothing more will be handed out."""
        return not (self._handed.num_left or self._due)

    def stop(self) -> None:
        """Ends it for this run, from any thread and at once; trials that end without a record are paused."""
        self._writer.stop()

    def close(self, timeout: float = FOREVER) -> bool:
        """As `stop`, and from the return on no ask is written. Waits up to `timeout` seconds for one that is being
        written; False when that went on."""
        return self._writer.close(timeout)

    def next(self) -> Ask | None:
        """The next trial to run; None when there is none now. Raises StoreError when the storage stays out of reach, or
        another driver writes asks."""
        ask = self._handed.again()
        while ask is None and self._due and not self._writer.closed:
            key = self._due.popleft()
            nothing: dict[str, Any] = {"params": {}, "distributions": {}, "system_attrs": {}}
            ask = self._writer.write(self._asked, key, self._trials[key], nothing, kind="confirm")
        if ask is not None:
            self._handed.out[ask.number] = ask
        return ask

    def end(self, number: int) -> TrialRecord | None:
        """Takes a trial back; its record, or None when it has none (`HandedOut.end`). The last of a look decides
        whether there is another."""
        record = self._handed.end(number)
        self._look()
        return record

    def _look(self) -> None:
        """What is wanted next, once nothing is left of what was."""
        if self._handed.num_left or self._due or self._handed.given_up:
            return
        wanted = self._wanted(list(self._handed.records.values()))
        self._due.extend(key for key in wanted if key not in self._handed.records)
