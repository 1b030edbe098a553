"""Ray Tune in a thread of its own: it tries trials while the driver's main thread watches."""

import tempfile
from concurrent.futures import Future
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from prunedlora.background import in_background
from prunedlora.fleet.proxy import make_proxy
from prunedlora.fleet.searcher import StoreSearcher

MOST_PROXY_FAILURES = 10
MOST_CONCURRENT = 100_000
"""The searcher holds the limit, which grows with the slots."""


class SilentTrials(TrialProgressCallback):
    """Tune's printer of trials, which would print some lines at any verbosity, into the middle of the live view."""

    def _print(self, msg: str) -> None:
        pass


def run_tune(searcher: StoreSearcher, board: Any) -> Future[None]:
    """One `Tuner.fit()`, begun. Its folder is thrown away: what counts is in the store."""
    return in_background(lambda: _fit(searcher, board), "tune")


def _fit(searcher: StoreSearcher, board: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="prunedlora-tune-", ignore_cleanup_errors=True) as scratch:
        tune.Tuner(
            make_proxy(board),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
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
