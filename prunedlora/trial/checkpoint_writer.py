"""Checkpoints written beside the training, which waits no longer than for a copy of what trains."""

import threading
from collections.abc import Callable

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
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._has_new = False

    def save(self, taken: Snapshot) -> None:
        """Begins to store a snapshot, once nothing else is in hand."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(taken,), name=f"checkpoint-{taken.name}", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Goes on at once; tells what has been stored, raises what went wrong."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Waits until nothing is in hand; tells and raises as `look`."""
        if (error := self.end()) is not None:
            raise error
        if self._has_new:
            self._has_new = False
            self._checkpointed()

    def end(self) -> Exception | None:
        """Waits until nothing is in hand; returns what went wrong, which is then not raised any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        return error

    def _write(self, taken: Snapshot) -> None:
        try:
            if store_checkpoint(self._store, self._key, taken, self._check_writer):
                self._store.note_checkpoint(self._key, *self._attempt)
                self._has_new = True
        except Exception as error:  # whatever it is, it is raised in the training's thread
            self._error = error
