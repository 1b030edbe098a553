"""Second chance: once all was asked and has ended, trials that were stopped by what others promised go on where those
others did not keep it."""

from collections import Counter, deque
from collections.abc import Callable, Sequence, Set

from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.ask_writer import FOREVER
from prunedlora.study.asker import Asker
from prunedlora.study.handed_out import MOST_LOST


class SecondChance:
    """A TrialSource: what the asker hands out, and then the trials that go on. For one thread, as an asker is.

    Judged again are all that were stopped, whenever those that went on before have ended, until none goes on. To the
    study they stay what they were when they were stopped: there is nothing left to ask.
    """

    def __init__(
        self,
        asker: Asker,
        store: Store,
        going_on: Callable[[], Sequence[tuple[Ask, float]]],
        *,
        keep_checkpoints: bool = False,
    ) -> None:
        """`going_on`: the trials that go on now, in order, and their losses. `keep_checkpoints`: also of those that
        stay stopped."""
        self._keep_checkpoints = keep_checkpoints
        self._given_up: set[str] = set()
        self._asker = asker
        self._store = store
        self._going_on = going_on
        self._waiting: deque[Ask] = deque()
        self._out: dict[int, Ask] = {}
        self._num_begun: Counter[str] = Counter()
        self._stopped = False
        self._look_again()

    @property
    def num_slots(self) -> int:
        return self._asker.num_slots

    @num_slots.setter
    def num_slots(self, number: int) -> None:
        self._asker.num_slots = number

    @property
    def num_kept(self) -> int:
        return self._asker.num_kept

    @property
    def num_resumed(self) -> int:
        return self._asker.num_resumed

    @property
    def problems(self) -> list[str]:
        return self._asker.problems

    @property
    def num_repeats(self) -> int:
        return self._asker.num_repeats

    @property
    def num_left(self) -> int:
        """Those of the asker, and those that are known to go on."""
        return self._asker.num_left + len(self._waiting) + len(self._out)

    @property
    def num_concurrent(self) -> int:
        return self._asker.num_concurrent

    @property
    def finished(self) -> bool:
        return self._asker.finished and not self._waiting and not self._out

    @property
    def records(self) -> list[TrialRecord]:
        return self._asker.records

    def next(self) -> Ask | None:
        """The next trial; None when there is none now. Raises StoreError."""
        if (ask := self._asker.next()) is not None:
            return ask
        self._look_again()
        if self._stopped or not self._waiting:
            return None
        ask = self._waiting.popleft()
        self._num_begun[ask.key] += 1
        self._out[ask.number] = ask
        return ask

    def end(self, number: int) -> TrialRecord | None:
        """Takes a trial back; its record, or None when it has none."""
        ask = self._out.pop(number, None)
        if ask is None:
            return self._asker.end(number)
        record = self._store.read_record(ask.key)
        if record is not None:
            self._asker.note(record)
        return record

    def stop(self) -> None:
        self._stopped = True
        self._asker.stop()

    def close(self, timeout: float = FOREVER) -> bool:
        self._stopped = True
        return self._asker.close(timeout)

    def _look_again(self) -> None:
        """Where everything has ended: who goes on. One that came back too often without having ended is left out."""
        if self._stopped or not self.finished:
            return
        going_on = [ask for ask, _ in self._going_on()]
        for ask in going_on:
            if self._num_begun[ask.key] < MOST_LOST:
                self._waiting.append(ask)
            elif ask.key not in self._given_up:
                self._given_up.add(ask.key)
                self.problems.append(
                    f"trial {ask.key}, which was stopped and was to go on, ended {MOST_LOST} times as it was; it is "
                    "left to the next run of the same command"
                )
        if not self._waiting and not self._keep_checkpoints:
            self._drop_checkpoints({ask.key for ask in going_on})

    def _drop_checkpoints(self, going_on: Set[str]) -> None:
        """Of those that stay stopped: by now nobody who beat them is taken back, and further ones only add to them."""
        for record in self._asker.records:
            if record.stopped_at is not None and record.key not in going_on and self._store.checkpoints(record.key):
                self._store.delete_folder(self._store.trial_path(record.key, "checkpoints"))
