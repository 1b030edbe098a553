"""Failure count: how often a slot may fail until it is closed. Progress forgives all that was before.

What fails before the first step of anything fails by the slot's own doing (its node sees no store, no Hub, no GPU),
and three times are enough. A worker that dies at its work may die of the work: a trial that kills its workers gets its
failed record at attempt max_attempts + 1, which is a piece of work brought to an end, and must not take the slot too.
"""

from prunedlora.fleet.board import Standing

MOST_EARLY = 3
"""Failures in a row before the first step."""


class FailureCount:
    """Of one slot, over all its runs."""

    def __init__(self, max_attempts: int) -> None:
        self._most = max_attempts + 2
        self._num_early = 0
        self._num_failures = 0
        self._num_advances = 0

    def note(self, standing: Standing, *, died: bool) -> str | None:
        """Counts a failure of the slot's workers; why the slot is to be closed, None while it is to be started again.

        `died`: a process was gone, of which nobody knows the reason.
        """
        if standing["num_advances"] > self._num_advances:
            self._num_advances = standing["num_advances"]
            self._num_early = self._num_failures = 0
        self._num_failures += 1
        early = not standing["stepped"] and not (died and standing["joined"])
        self._num_early = self._num_early + 1 if early else 0
        if self._num_early >= MOST_EARLY:
            return f"after {MOST_EARLY} failures before the first step"
        if self._num_failures >= self._most:
            return f"after {self._most} failures without a new checkpoint or a finished trial between"
        return None

    @property
    def in_a_row(self) -> int:
        """Failures since the last progress."""
        return self._num_failures
