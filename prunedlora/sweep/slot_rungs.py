"""On which rung of its ladder a trial in training stands, from its configuration and the steps that it has done."""

from prunedlora.config.methods import section_fields
from prunedlora.config.trial import TrialConfig
from prunedlora.pruning.ladder import Ladder, rungs_of
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store


class SlotRungs:
    """Reads each trial's configuration once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ladders: dict[str, Ladder | None] = {}

    def text(self, key: str, step: int, num_steps: int) -> str:
        """ "trunk" or "rung 2/5"; empty without a ladder, before the number of steps is known, and while the store does
        not answer."""
        if not num_steps:
            return ""
        if key not in self._ladders:
            try:
                config = TrialConfig.model_validate(self._store.read_config(key))
            except StoreError:  # what is shown can wait for the next look
                return ""
            pruning = config.pruning
            self._ladders[key] = None if pruning is None else section_fields(pruning).get("ladder")
        ladder = self._ladders[key]
        if ladder is None:
            return ""
        rungs = rungs_of(ladder, num_steps)
        # While a rung's end is reached its candidate is made: it stands there until it goes on.
        number = next((rung.number for rung in rungs if step <= rung.end), rungs[-1].number)
        return "trunk" if number == 0 else f"rung {number}/{len(rungs) - 1}"
