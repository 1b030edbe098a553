"""Searcher: Ray Tune's side of the search. It passes trials from the asker to Tune and tells it when they end.

Tune's own results are not looked at: what became of a trial is in the store, under its key.
"""

from typing import Any

from ray.tune.search import Searcher

from prunedlora.study.asker import Asker


class StoreSearcher(Searcher):
    """Bridge between Tune's trial ids and the asker's numbers; no policy of its own."""

    def __init__(self, asker: Asker) -> None:
        super().__init__()
        self._asker = asker
        self._numbers: dict[str, int] = {}
        self._ended = False

    def end(self) -> None:
        """No more trials are handed out."""
        self._ended = True

    def suggest(self, trial_id: str) -> Any:
        """The next trial's key and number for the proxy, None when there is none now, FINISHED when never again."""
        ask = None if self._ended else self._asker.next()
        if ask is None:
            return Searcher.FINISHED if self._ended or self._asker.finished else None
        self._numbers[trial_id] = ask.number
        return {"key": ask.key, "number": ask.number}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes the trial back; its record decides what the study is told, a trial without one stays in flight."""
        self._asker.end(self._numbers.pop(trial_id))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the search is rebuilt from the store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the search is rebuilt from the store."""
