"""What ended a run of a trial early: a failure of its own, or something outside, after which it goes on.

What ranks have to say they leave in the store, in the trial's folder `failures`, until it is begun again: a rank that
fails alone cannot write the record, and the others only see that it is gone.
"""

from prunedlora.results.record import Failure, from_json, to_json
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.training.agreement import WorkersDifferError
from prunedlora.training.distributed import PeerLostError
from prunedlora.trial.outside_error import OutsideError

OUTSIDE = (OutsideError, StoreError, PeerLostError, WorkersDifferError)
"""Not the trial's doing: the workers start again, and it goes on from its last checkpoint, as often as `max_attempts`
allows. Workers that differ have added the same numbers to different sums, by a device that errs, say, or by different
versions of a library: all of them go on from the one checkpoint, and where they differ again, the last words say so."""
FOLDER = "failures"
FAILED, INTERRUPTED = "failed", "interrupted"


class TooManyAttemptsError(RuntimeError):
    """A trial whose workers died every time it was started."""


class RankFailedError(RuntimeError):
    """A trial of which another rank than the first failed; the message has its reason."""


def begin_attempt(store: Store, key: str, epoch: int, max_attempts: int) -> int:
    """The number of this attempt under this driver. Forgets what the one before left, unless it was the last."""
    attempt = store.begin_attempt(key, epoch)
    if attempt <= max_attempts and store.num_attempts(key) > 1:
        store.delete_folder(store.trial_path(key, FOLDER))
    return attempt


def leave_words(store: Store, key: str, rank: int, failure: Failure, *, outside: bool) -> None:
    """Leaves why this rank cannot go on; `outside`: by no fault of the trial."""
    name = f"{INTERRUPTED if outside else FAILED}-rank{rank}.json"
    store.storage.write_text(store.trial_path(key, FOLDER, name), to_json(failure))


def rank_that_failed(store: Store, key: str) -> RankFailedError | None:
    """The failure of a rank that failed alone; None: no rank says so."""
    words = _words(store, key, FAILED)
    return None if words is None else RankFailedError(words)


def last_words(store: Store, key: str) -> str:
    """What the ranks of the last attempt left."""
    words = _words(store, key, FAILED) or _words(store, key, INTERRUPTED)
    return words or "they left no reason (killed, or out of memory?); see the workers' logs"


def _words(store: Store, key: str, kind: str) -> str | None:
    folder = store.trial_path(key, FOLDER)
    names = [name for name in store.storage.names(folder) if name.startswith(f"{kind}-rank")]
    if not names:
        return None
    path = f"{folder}/{names[-1]}"
    failure = from_json(Failure, store.storage.read_text(path) or "", store.storage.uri_of(path))
    rank = names[-1].removeprefix(f"{kind}-rank").removesuffix(".json")
    return f"rank {rank} {'was interrupted' if kind == INTERRUPTED else kind}: {failure.type}: {failure.message}"
