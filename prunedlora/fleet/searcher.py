"""Searcher: Ray Tune's side of the search. It passes asks on to Tune and says when their trials have ended.

Tune's own results are not looked at: what became of a trial is in the store, under its key.
"""

from collections.abc import Callable
from typing import Any, Protocol

from ray.tune.search import Searcher

from prunedlora.results.ask import Ask


class Asks(Protocol):
    """Where the asks come from; the driver brings it (study.asker)."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will be handed out."""

    def next(self) -> Ask | None:
        """The next ask to run; None when there is none now."""

    @property
    def num_concurrent(self) -> int:
        """Trials that may be out at once; grows with the slots."""

    def end(self, number: int) -> Any:
        """The trial of an ask has ended. One without a record is handed out again, a few times at most."""

    def stop(self) -> None:
        """Nothing more is asked or handed out in this run; returns at once."""


class StoreSearcher(Searcher):
    """Bridge between Tune's trial ids and the numbers of asks; no policy of its own."""

    def __init__(self, asks: Asks, about: Callable[[Ask], dict[str, Any] | None] = lambda ask: None) -> None:
        """`about`: what the board's judge must know of a trial; None: nothing."""
        super().__init__()
        self._asks = asks
        self._about = about
        self._out: dict[str, Ask] = {}
        self._ended = False

    def end(self) -> None:
        """No more trials are handed out; returns at once."""
        self._ended = True
        self._asks.stop()

    def suggest(self, trial_id: str) -> Any:
        """The next trial's key and number for the proxy, None when there is none now, FINISHED when never again.

        Tune's own limit of trials at once is fixed when it starts; this one grows.
        """
        if not self._ended and len(self._out) >= self._asks.num_concurrent:
            return None
        ask = None if self._ended else self._asks.next()
        if ask is None:
            # Tune never asks again after FINISHED, and a trial that is out may come back without a record.
            is_over = self._ended or (self._asks.finished and not self._out)
            return Searcher.FINISHED if is_over else None
        self._out[trial_id] = ask
        about = self._about(ask)
        return {"key": ask.key, "number": ask.number} | ({} if about is None else {"about": about})

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes the trial back; its record decides what the study is told, a trial without one stays in flight."""
        self._asks.end(self._out.pop(trial_id).number)

    def __reduce__(self) -> Any:
        """Tune pickles what it is given, to restore it from: nothing of this one, with its threads and all records."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the search is rebuilt from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the search is rebuilt from the store."""
