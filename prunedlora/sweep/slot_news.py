"""Slot news: what is said about the slots while a sweep runs, each thing when it happens."""

from typing import Any

from prunedlora.fleet.slots import Slots
from prunedlora.sweep.progress import Progress


class SlotNews:
    """Call `tell` as often as is handy; nothing is said twice in a row."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._closed: set[int] = set()
        self._waiting = ""

    def tell(self, snapshot: dict[str, Any], slots: Slots) -> None:
        """Says which slots were closed, and why; and that slots wait for resources. `snapshot`: the board's."""
        for slot, text in sorted(slots.closed.items()):
            if slot not in self._closed:
                self._closed.add(slot)
                self._progress.say(text)
        states = [slot["state"] for slot in snapshot["slots"].values()]
        waiting = slots.waiting_text(snapshot) if "waiting for resources" in states else ""
        if waiting and waiting != self._waiting:
            self._progress.say(waiting)
        self._waiting = waiting
