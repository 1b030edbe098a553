"""The bridge between Tune and whoever asks."""

from typing import Any

import pytest
from ray.tune.search import Searcher

from prunedlora.fleet.searcher import MOST_ENDS, RecordMissingError, StoreSearcher
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from tests.inventions import invented_record


class Asks:
    """Hands out asks; what ends without a record is handed out again."""

    def __init__(self, num: int, num_concurrent: int) -> None:
        self.num_concurrent = num_concurrent
        self.waiting = [
            Ask(number=n, key=f"{n}", kind="search", params={}, distributions={}, system_attrs={}) for n in range(num)
        ]
        self.out: dict[int, Ask] = {}
        self.recorded: set[str] = set()

    @property
    def finished(self) -> bool:
        return not self.waiting

    def next(self) -> Ask | None:
        if not self.waiting:
            return None
        ask = self.waiting.pop(0)
        self.out[ask.number] = ask
        return ask

    def end(self, number: int) -> TrialRecord | None:
        ask = self.out.pop(number)
        if ask.key in self.recorded:
            return invented_record(ask.key, {"adapter": {"initial_rank": 2}, "training": {"num_steps": 2}})
        self.waiting.append(ask)
        return None


def test_as_many_are_out_as_the_slots_allow_now() -> None:
    asks = Asks(6, num_concurrent=2)
    searcher = StoreSearcher(asks)
    assert [searcher.suggest(str(n)) for n in range(3)] == [{"key": "0", "number": 0}, {"key": "1", "number": 1}, None]
    asks.num_concurrent = 4  # a node came
    assert [searcher.suggest(str(n))["number"] for n in (2, 3)] == [2, 3]
    assert searcher.suggest("4") is None


def test_the_last_trial_that_comes_back_without_a_record_is_handed_out_again() -> None:
    """Tune never asks again once it has heard that it is over: not while a trial is out."""
    asks = Asks(1, num_concurrent=2)
    searcher = StoreSearcher(asks)
    assert searcher.suggest("a") == {"key": "0", "number": 0}
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("b") == {"key": "0", "number": 0}
    asks.recorded.add("0")
    searcher.on_trial_complete("b")
    assert searcher.suggest("c") == Searcher.FINISHED


def test_a_trial_that_never_has_a_record_ends_the_sweep_by_name() -> None:
    asks = Asks(1, num_concurrent=2)
    searcher = StoreSearcher(asks)
    for number in range(MOST_ENDS - 1):
        assert searcher.suggest(str(number)) == {"key": "0", "number": 0}
        searcher.on_trial_complete(str(number))
    searcher.suggest("last")
    with pytest.raises(RecordMissingError, match="trial 0 came to an end 5 times, and the driver saw no record of it"):
        searcher.on_trial_complete("last")


def test_a_sweep_that_ends_early_takes_trials_back_without_records() -> None:
    asks: Any = Asks(9, num_concurrent=9)
    searcher = StoreSearcher(asks)
    names = [str(n) for n in range(MOST_ENDS + 1)]
    for name in names:
        searcher.suggest(name)
    searcher.end()
    assert searcher.suggest("more") == Searcher.FINISHED
    for name in names:
        searcher.on_trial_complete(name)
