"""HandedOut: trials that are out, and what becomes of those that come back without a record."""

from collections import Counter, deque
from collections.abc import Iterable

from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.ask_writer import AskWriter

MOST_LOST = 3
"""So often may a trial of one run end without a record before it is left to the next run."""


class HandedOut:
    """For one thread at a time. It adds to `records` and to `problems`."""

    def __init__(
        self,
        store: Store,
        writer: AskWriter,
        asks: Iterable[Ask],
        records: dict[str, TrialRecord],
        problems: list[str],
    ) -> None:
        """`asks`: those of earlier runs that are trials of this one; without a record they wait."""
        self.records = records
        self.waiting = deque(ask for ask in asks if ask.key not in records)
        """To be handed out, in flight since an earlier run or lost."""
        self.out: dict[int, Ask] = {}
        """By number."""
        self.given_up: set[str] = set()
        """Keys of trials that were lost too often."""
        self._store = store
        self._writer = writer
        self._problems = problems
        self._num_lost: Counter[str] = Counter()

    @property
    def num_left(self) -> int:
        """Trials that wait or are out."""
        return len(self.waiting) + len(self.out)

    def again(self) -> Ask | None:
        """The next one that waits; None when there is none, or asking is over. Raises StoreError."""
        while self.waiting and not self._writer.closed:
            ask = self.waiting.popleft()
            if ask.key not in self._num_lost or not self._found(ask):
                return ask
        return None

    def end(self, number: int) -> TrialRecord | None:
        """Takes a trial back; its record, or None when it has none.

        Once asking is over such a trial is paused. Before, what ended it left no record that can be seen from here (its
        proxy died, a file system shows new files late): after another look it waits again, MOST_LOST times at most.
        """
        ask = self.out.pop(number)
        record = self._writer.read_record(ask.key)
        if record is not None:
            self.records[ask.key] = record
        elif not self._writer.closed:
            self._lost(ask)
        return record

    def _lost(self, ask: Ask) -> None:
        self._num_lost[ask.key] += 1
        if self._num_lost[ask.key] < MOST_LOST:
            self.waiting.appendleft(ask)
            return
        self.given_up.add(ask.key)
        self._problems.append(
            f"trial {ask.key} ended {MOST_LOST} times without a record in {self._store.uri} that the driver can see; "
            "it was left to the next run of the same command"
        )

    def _found(self, ask: Ask) -> bool:
        """Whether a trial that was lost has a record by now."""
        record = self._store.read_record(ask.key)
        if record is not None:
            self.records[ask.key] = record
        return record is not None
