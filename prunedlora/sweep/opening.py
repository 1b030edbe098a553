"""Opening: a store checked, made that of a sweep, and the sweep checked, before anything trains; the same for all ways
to run one."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from prunedlora.config.identity import KEY_VERSION, contents
from prunedlora.config.sweep import SweepConfig
from prunedlora.plain_print import print_plain
from prunedlora.planned_size import Planner
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.store import Store
from prunedlora.sweep.bind import bind, bind_data, commits_of
from prunedlora.sweep.every_trial import every_trial
from prunedlora.sweep.findings import Findings
from prunedlora.sweep.job_storage import check_storage
from prunedlora.sweep.outcome import typed
from prunedlora.sweep.preflight import preflight
from prunedlora.sweep.training_amount import TrainingAmount


class Opening:
    """Its methods are called once each, in their order: `create`, then under the lock `bind` and `check`."""

    def __init__(self, config: SweepConfig, storage: str) -> None:
        """Checks that this store can be that of the sweep; of a sweep it writes nothing.

        Raises:
            StoreError: the storage cannot be written, or holds something else.
            RecordError: a document in the store is broken.
            CommitError: the Hub knows no such name.
        """
        check_storage(storage)
        self._config = config
        self.store = Store(storage)
        self.store.storage.check_writable()
        self._tree: dict[str, Any] = config.model_copy(update={"storage": self.store.uri}).model_dump(mode="json")
        self._contents = contents(every_trial(config))
        self.store.binding.check_key_version(KEY_VERSION)
        self.store.binding.check_contents(self._contents)
        self._commits: Mapping[str, str | None] = commits_of(config, self.store)
        self.is_new = not self.store.check(self._tree)
        """Whether the store is that of no sweep yet."""
        self._found: Findings | None = None

    @property
    def amounts(self) -> Mapping[str, Sequence[TrainingAmount]]:
        """As Findings has them; empty where nothing had to be looked at."""
        return {} if self._found is None else self._found.amounts

    def create(self) -> None:
        """Makes a new store that of the sweep; a sweep that cannot run gets none. Raises what `preflight` finds."""
        if self.is_new:
            self._found = preflight(self._config, self._commits)
        self.store.create_or_open(self._tree)

    @property
    def planner(self) -> Planner | None:
        """Of the sweep's trials; None where it was not checked in this run, since nothing is left to be done."""
        return None if self._found is None else self._found.planner

    def lock(self, console: Console) -> DriverLock:
        """Of the store, to be acquired."""
        return DriverLock(self.store.storage, say=partial(print_plain, console))

    def bind(self, command: Sequence[str]) -> None:
        """For the driver that holds the lock: binds the store to the sweep, and remembers the process's arguments
        (sys.argv) where they are given. Raises StoreError as `bind.bind`."""
        bound = bind(self.store, self._tree, self._contents, self._commits)
        if bound != self._commits:
            self._commits, self._found = bound, None
        if command:
            self.store.write_command(typed(command))

    def check(self, console: Console, *, something_is_left: bool) -> None:
        """For the driver that holds the lock: tells what is worth saying of the sweep, and binds the store to its data;
        not where nothing is left to be done and all was checked in an earlier run. Raises what `preflight` finds, and
        StoreError for data that changed."""
        if something_is_left and self._found is None:
            self._found = preflight(self._config, self._commits)
        if self._found is not None:
            for warning in self._found.warnings:
                print_plain(console, f"Warning: {warning}")
            bind_data(self.store, self._found.fingerprints)
