"""Checkpoints written beside the training, which waits no longer than for a copy of what trains."""

from collections.abc import Callable
from concurrent.futures import Future

from prunedlora.background import in_background
from prunedlora.results.store import Store
from prunedlora.trial.resume import Snapshot, store_checkpoint


class CheckpointWriter:
    """Stores the snapshots of one attempt in a thread of its own, one at a time: the next one waits for the former.

    What goes wrong in it is raised in the training, by the next `save`, `look` or `wait`.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        attempt: tuple[int, int],
        check_writer: Callable[[], None],
        checkpointed: Callable[[], None],
    ) -> None:
        """`attempt`: the driver's epoch, and the attempt's number under it. `checkpointed`: called in the training's
        thread, by all but `end`, after new checkpoints have been stored."""
        self._store = store
        self._key = key
        self._attempt = attempt
        self._check_writer = check_writer
        self._checkpointed = checkpointed
        self._writing: Future[bool] | None = None
        self._has_new = False

    def save(self, taken: Snapshot) -> None:
        """Begins to store a snapshot, once nothing else is in hand."""
        self.wait()
        self._writing = in_background(lambda: self._write(taken), f"checkpoint-{taken.name}")

    def look(self) -> None:
        """Goes on at once; tells what has been stored, raises what went wrong."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until nothing is in hand; tells and raises as `look`."""
        if (error := self.end()) is not None:
            raise error
        if self._has_new:
            self._has_new = False
            self._checkpointed()

    def end(self) -> BaseException | None:
        """Waits until nothing is in hand; returns what went wrong, which is then not raised any more."""
        if self._writing is None:
            return None
        writing, self._writing = self._writing, None
        if (error := writing.exception()) is None:
            self._has_new = self._has_new or writing.result()
        return error

    def _write(self, taken: Snapshot) -> bool:
        """Whether it is a new checkpoint."""
        if not store_checkpoint(self._store, self._key, taken, self._check_writer):
            return False
        self._store.note_checkpoint(self._key, *self._attempt)
        return True
