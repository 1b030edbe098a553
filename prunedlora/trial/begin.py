"""The beginning of an attempt: what it needs is loaded first, by all workers alike; only then is it counted."""

from dataclasses import dataclass

from prunedlora.adapters.adapted_share import AdaptedShare
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Failure
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache, Assets, share_of
from prunedlora.trial.failures import (
    HARNESS,
    TooManyAttemptsError,
    failure_of,
    forget_words,
    last_words,
    loading,
    rank_that_failed,
    row_of,
    words_about,
)
from prunedlora.trial.outside_error import NodeError
from prunedlora.trial.trial_harness import Harness, load_harness


@dataclass(frozen=True)
class Loaded:
    """What a node must have for a trial."""

    assets: Assets
    harness: Harness | None
    share: AdaptedShare | None
    """What part of the model is adapted."""


def load(config: TrialConfig, key: str, assets: AssetCache, workers: Workers) -> Loaded | Failure:
    """Base model, data and harness tasks; or what is wrong with the configuration or what it names, on whichever
    worker: for the record. Called by all of them, which go on alike.

    Raises NodeError, on all workers, for what a node of any of them has not done: no attempt, and no record.
    """
    found: Loaded | None = None
    error: Exception | None = None
    try:
        with loading(f"base model and data of trial {key}"):
            harness = load_harness(config, workers.num_workers)
            loaded = assets.get(config)
            found = Loaded(loaded, harness, share_of(config, loaded.skeleton))
    except Exception as caught:  # of whatever library loads; the table says whose it is
        error = caught
    own = None
    if error is not None:
        own = row_of(error, loading=True).consequence.has_record, failure_of(error, loading=True)
    words = {rank: word for rank, word in enumerate(workers.gather(own)) if word is not None}
    if error is not None and own is not None and not own[0]:
        raise error
    for rank, (has_record, failure) in words.items():
        if not has_record:
            raise NodeError(f"rank {rank}: {failure.message}")
    for _, failure in words.values():
        return failure
    assert found is not None
    return found


@dataclass(frozen=True)
class Begun:
    """An attempt that counts."""

    attempt: int
    """Its number under this driver."""
    failure: Failure | None
    """Why it ends at once, for the record."""
    harness_failure: Failure | None
    """Why the attempt before could not measure by lm-evaluation-harness, for which workers had to be restarted."""


def begin(store: Store, key: str, epoch: int, max_attempts: int, problem: Failure | None) -> Begun:
    """Counts an attempt and looks at what the one before it left; for rank 0.

    It ends at once for a `problem` in loading, for a rank of the one before that failed alone (which would fail again,
    after as long a training), and after `max_attempts` without a new checkpoint.
    """
    attempt = store.begin_attempt(key, epoch)
    before = epoch, attempt - 1
    failure = problem or rank_that_failed(store, key, before)
    since = store.num_attempts_since_checkpoint(key, epoch)
    if failure is None and since > max_attempts:
        times = f"{attempt - 1} times" if since == attempt else f"{since} times since its last new checkpoint"
        died = f"the workers of this trial died {times}; {last_words(store, key, before)}"
        failure = failure_of(TooManyAttemptsError(died), loading=False)
    harness = words_about(store, key, before, HARNESS)
    forget_words(store, key, before)
    return Begun(attempt, failure, None if harness is None else harness[1])
