"""Ray Tune in a thread of its own: it tries trials while the driver's main thread watches."""

import tempfile
import threading
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from prunedlora.fleet.proxy import make_proxy
from prunedlora.fleet.searcher import StoreSearcher

MOST_PROXY_FAILURES = 10
MOST_CONCURRENT = 100_000
"""The searcher holds the limit, which grows with the slots."""


class SilentTrials(TrialProgressCallback):
    """Tune's printer of trials, which would print some lines at any verbosity, into the middle of the live view."""

    def _print(self, msg: str) -> None:
        pass


class TuneThread(threading.Thread):
    """One `Tuner.fit()`. Its folder is thrown away: what counts is in the store."""

    def __init__(self, searcher: StoreSearcher, board: Any) -> None:
        super().__init__(name="tune", daemon=True)
        self._searcher = searcher
        self._board = board
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="prunedlora-tune-", ignore_cleanup_errors=True) as scratch:
                tune.Tuner(
                    make_proxy(self._board),
                    tune_config=tune.TuneConfig(
                        search_alg=self._searcher,
                        num_samples=-1,
                        max_concurrent_trials=MOST_CONCURRENT,
                        reuse_actors=True,
                    ),
                    run_config=tune.RunConfig(
                        name="trials",
                        storage_path=scratch,
                        verbose=0,
                        callbacks=[SilentTrials()],
                        # A proxy that dies with its node starts again; the board knows its trial.
                        failure_config=tune.FailureConfig(max_failures=MOST_PROXY_FAILURES),
                    ),
                ).fit()
        except BaseException as error:  # raised again in the main thread
            self.error = error
