"""ToldTrials: what the study holds of all asks, each as it stands, in the order of the asks.

Samplers draw by index and weigh trials by age. In which order runs end is no part of what is told, so the trials of an
ask stand at its place, however many it has by now: a study that lives on is one that is rebuilt.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.study.rebuild import trial_of, unended
from prunedlora.study.telling import Teller

LEARNT = (TrialState.COMPLETE, TrialState.PRUNED)


class ToldTrials:
    """Grows with the asks; what is told of one may change."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._seen: dict[int, tuple[Ask, TrialRecord | None]] = {}
        self._trials: dict[int, list[FrozenTrial]] = {}  # number of an ask → its trials, its own first

    def __iter__(self) -> Iterator[FrozenTrial]:
        for trials in self._trials.values():
            yield from trials

    @property
    def num_learnt(self) -> int:
        """Runs that a sampler learns from."""
        return sum(
            record is not None and any(trial.state in LEARNT for trial in self._trials[number])
            for number, (_, record) in self._seen.items()
        )

    def reached(self) -> Iterator[tuple[float, float]]:
        """(size, gain) of all candidates that are told of."""
        for _, record in self._seen.values():
            if record is not None:
                yield from (self._teller.point(values) for _, values in self._teller.measured(record))

    def follow(self, asks: Sequence[Ask], told: Mapping[int, TrialRecord]) -> None:
        """Holds what is told of these asks of the search; what changed since the last call is told anew."""
        if list(self._trials) != [ask.number for ask in asks[: len(self._trials)]]:
            self._seen.clear()
            self._trials.clear()
        for ask in asks:
            record = told.get(ask.number)
            known, knows = self._seen.get(ask.number, (None, None))
            if known is not ask or knows is not record:
                self._seen[ask.number] = ask, record
                self._trials[ask.number] = list(self._trials_of(ask, record))

    def _trials_of(self, ask: Ask, record: TrialRecord | None) -> Iterable[FrozenTrial]:
        if record is None or unended(ask) is TrialState.PRUNED:
            yield trial_of(ask, unended(ask))
            return
        outcome = self._teller.told(ask, record)
        if outcome.own is None:
            yield trial_of(ask, outcome.state)
        for each in (outcome.own, *outcome.others):
            if each is not None:
                yield trial_of(ask, TrialState.COMPLETE, each.values, params=each.params, constraints=each.beyond)
