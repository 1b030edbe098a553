"""The beginning of an attempt: what it needs is loaded first, by all workers alike; only then is it counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prunedlora.adapters.adapted_share import AdaptedShare
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Failure
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache, Assets
from prunedlora.trial.failures import TooManyAttemptsError, failure_of, loading, row_of
from prunedlora.trial.last_words import (
    HARNESS,
    NOT_BEGUN,
    Words,
    attempts_with,
    forget_words,
    last_words,
    rank_that_failed,
    words_left,
)
from prunedlora.trial.outside_error import NodeError
from prunedlora.trial.start import START_FACT, labels_of, share_of, start_of
from prunedlora.trial.trial_harness import Harness, load_harness

MOST_NOT_BEGUN = 5
"""Attempts that nodes ended before a step of their own, after which the trial fails: more than one sick device takes,
whose slot is closed after three (fleet/failure_count.py), and fewer than close the next slot too, where the trial
breaks every device."""
MOST_HARNESS = 2
"""Attempts of which the node could not measure by lm-evaluation-harness, after which it is not asked again."""


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
        with loading(f"base model, data and adapter of trial {key}"):
            harness = load_harness(config, workers.num_workers)
            start = start_of(config)  # before the weights of the base
            loaded = assets.get(config, labels_of(config, start))
            if start is not None:
                loaded = replace(loaded, model_facts=loaded.model_facts | {START_FACT: start.facts})
            found = Loaded(loaded, harness, share_of(config, loaded.skeleton, start))
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
    """Why an attempt before could not measure by lm-evaluation-harness, which is not asked again."""


def begin(store: Store, key: str, epoch: int, max_attempts: int, problem: Failure | None) -> Begun:
    """Counts an attempt and looks at what those before it left; for rank 0.

    It ends at once for a `problem` in loading, for a rank that failed alone (which would fail again, after as long a
    training), and after `max_attempts` without a new checkpoint. An attempt that a node ended before a step of its own
    is none of these `max_attempts`; there may be MOST_NOT_BEGUN of such without a new checkpoint, under all drivers.
    """
    attempt = store.begin_attempt(key, epoch)
    record = store.read_record(key)
    if record is not None and record.attempts == store.num_attempts(key) - 1:
        forget_words(store, key)  # whoever wrote the record was killed before
    left = words_left(store, key)
    failure = problem or rank_that_failed(left) or _too_many(store, key, (epoch, attempt), max_attempts, left)
    return Begun(attempt, failure, _harness_failure(left))


def _too_many(
    store: Store, key: str, attempt: tuple[int, int], max_attempts: int, left: Sequence[Words]
) -> Failure | None:
    """That a trial has been interrupted too often; None: it has not."""
    epoch, number = attempt
    since = store.num_attempts_since_checkpoint(key, epoch)
    # Under whichever driver: a trial that breaks every device may close all slots of one.
    not_begun = {other for other in attempts_with(left, NOT_BEGUN) if other > store.last_checkpointed(key)}
    if len(not_begun) >= MOST_NOT_BEGUN:
        times = f"{len(not_begun)} times before it had done a step"
        why = last_words(left, max(not_begun))
    else:
        free = {(epoch, other) for other in range(number - since + 1, number)} & attempts_with(left, NOT_BEGUN, HARNESS)
        counted = since - len(free)
        if counted <= max_attempts:
            return None
        times = f"{counted - 1} times" if since == number else f"{counted} times since its last new checkpoint"
        why = last_words(left, (epoch, number - 1))
    return failure_of(TooManyAttemptsError(f"this trial was interrupted {times}; {why}"), loading=False)


def _harness_failure(left: Sequence[Words]) -> Failure | None:
    """Why lm-evaluation-harness is not asked again: it broke the workers, or a node has failed at it MOST_HARNESS
    times; None: it is asked."""
    failures = [words.failure for words in left if words.about == HARNESS]
    broke = [failure for failure in failures if failure.fault != "node"]
    if broke or len(attempts_with(left, HARNESS)) >= MOST_HARNESS:
        return (broke or failures)[-1]
    return None
