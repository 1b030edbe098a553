"""The bridge between Tune and whoever asks."""

from typing import Any

from ray.tune.search import Searcher

from prunedlora.fleet.searcher import StoreSearcher
from prunedlora.results.ask import Ask


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
        return not self.waiting and not self.out

    def next(self) -> Ask | None:
        if not self.waiting:
            return None
        ask = self.waiting.pop(0)
        self.out[ask.number] = ask
        return ask

    def end(self, number: int) -> None:
        ask = self.out.pop(number)
        if ask.key not in self.recorded:
            self.waiting.append(ask)

    def stop(self) -> None:
        self.waiting.clear()


def test_what_a_judge_must_know_of_a_trial_goes_with_it() -> None:
    searcher = StoreSearcher(Asks(1, num_concurrent=2), lambda ask: {"sizes": [int(ask.key)]})
    assert searcher.suggest("x") == {"key": "0", "number": 0, "about": {"sizes": [0]}}


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


def test_a_sweep_that_ends_early_takes_trials_back_without_records() -> None:
    asks: Any = Asks(9, num_concurrent=9)
    searcher = StoreSearcher(asks)
    names = [str(n) for n in range(6)]
    for name in names:
        searcher.suggest(name)
    searcher.end()
    assert searcher.suggest("more") == Searcher.FINISHED
    for name in names:
        searcher.on_trial_complete(name)
