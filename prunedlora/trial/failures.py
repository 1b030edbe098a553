"""Whose fault a failure is, in one table that all read who decide: is there a record, what is the study told, where is
the trial tried again.

What ranks have to say they leave in the store, in the trial's folder `failures`, by attempt: a rank that fails alone
cannot write the record, and the others only see that it is gone.
"""

import errno
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from safetensors import SafetensorError

from prunedlora.adapters.reach import NoGradientError, ReachError
from prunedlora.adapters.verify import VerificationError
from prunedlora.config.identity import LocationError
from prunedlora.results.record import Failure, Fault, RecordError, from_json, to_json
from prunedlora.results.storage import StoreError
from prunedlora.results.store import StaleWriterError, Store
from prunedlora.training.agreement import WorkersDifferError
from prunedlora.training.checkpoint import CheckpointError
from prunedlora.training.distributed import PeerLostError
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.memory import is_out_of_memory
from prunedlora.trial.outside_error import NodeError, OutsideError

FOLDER = "failures"
FAILED, INTERRUPTED, HARNESS = "failed", "interrupted", "harness"
"""What a rank's words are about: the trial, something outside, lm-evaluation-harness at the end of a training."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
DISK_FULL_WORDS = ("No space left on device", "Disk quota exceeded")
"""Of libraries that raise no OSError (safetensors)."""
DEVICE_WORDS = ("CUDA error", "CUDA driver error", "CUDA-capable", "CUDA GPUs", "cuDNN", "CUBLAS_", "NCCL", "CUDNN_")
NETWORK = ("aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")
"""Packages of which many an error is no OSError."""


class TooManyAttemptsError(RuntimeError):
    """A trial whose workers died every time it was started."""


@dataclass(frozen=True)
class Consequence:
    """What comes of a failure."""

    has_record: bool
    told: Literal["pruned", "nothing"]
    """What the study is told, by the record's `fault`: that these settings are bad, or nothing."""
    again: Literal["on request", "elsewhere", "already"]
    """on request: with --retry-failed. elsewhere: by workers that are started anew, in this slot or another, from the
    last checkpoint, as often as `max_attempts` says; what fails in loading is no attempt. already: by who has taken
    over."""


JUDGED = Consequence(has_record=True, told="pruned", again="on request")
RECORDED = Consequence(has_record=True, told="nothing", again="on request")
INTERRUPTS = Consequence(has_record=False, told="nothing", again="elsewhere")
REPLACED = Consequence(has_record=False, told="nothing", again="already")


@dataclass(frozen=True)
class Row:
    """A kind of error, and whose it is."""

    fault: Fault | None
    consequence: Consequence
    matches: tuple[type[BaseException], ...] | Callable[[BaseException], bool]
    """Asked of the error and of all that it comes from."""
    loading: bool | None = None
    """Whether of base and data, before a trial begins; None: then and later."""

    def fits(self, chain: Sequence[BaseException], loading: bool) -> bool:
        if self.loading not in (None, loading):
            return False
        if isinstance(self.matches, tuple):
            return any(isinstance(error, self.matches) for error in chain)
        return any(self.matches(error) for error in chain)


def _says(error: BaseException, *words: str) -> bool:
    return any(word in str(error) for word in words)


def _is_disk_full(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno in DISK_FULL) or _says(error, *DISK_FULL_WORDS)


def _is_device_assert(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _says(error, "device-side assert")


def _is_device(error: BaseException) -> bool:
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and _says(error, *DEVICE_WORDS)
    )


def _is_of_network(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in NETWORK


CONTENT = (
    ValueError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    ReachError,
    StopIteration,
    TypeError,
)
"""What code raises that is fed with other values than it foresees."""

OWN = (OutsideError, StoreError, PeerLostError, WorkersDifferError)
"""Errors of this package that interrupt, and say so themselves."""
TABLE = (
    Row(None, REPLACED, (StaleWriterError,)),
    Row("storage", INTERRUPTS, (StoreError,)),
    Row("node", INTERRUPTS, _is_disk_full),
    # Workers that differ have added the same numbers to different sums, by a device that errs, say, or by different
    # versions of a library: all of them go on from the one checkpoint.
    Row("node", INTERRUPTS, (OutsideError, PeerLostError, WorkersDifferError)),
    Row(None, RECORDED, (TooManyAttemptsError,)),
    Row("storage", RECORDED, (CheckpointError, RecordError)),  # it would be read again and again
    Row("trial", JUDGED, (NonFiniteError, NoGradientError)),
    Row("user", RECORDED, _is_device_assert),  # a token beyond the embedding, a class that is none
    Row("trial", JUDGED, is_out_of_memory, loading=False),  # at the smallest passes (training/loop.py)
    Row("node", INTERRUPTS, is_out_of_memory, loading=True),  # no setting of the search is in memory yet
    Row("node", INTERRUPTS, _is_device),
    # Files, disks, sockets, the Hub, packages: the driver had them when it looked (sweep/preflight.py).
    Row("node", INTERRUPTS, (OSError, ImportError, LocationError, SafetensorError)),
    Row("node", INTERRUPTS, _is_of_network),
    # An export that is not what was trained says nothing of the settings: a library, or this package, is wrong.
    Row(None, RECORDED, (VerificationError,)),
    # Configuration and content: DataError, TargetError, ModelError, HarnessError are all ValueErrors.
    Row("user", RECORDED, (ValueError,), loading=False),
    Row("user", RECORDED, CONTENT, loading=True),
    Row("node", INTERRUPTS, (Exception,), loading=True),
    Row(None, RECORDED, (Exception,), loading=False),
)
"""The first row that fits counts."""


def row_of(error: BaseException, *, loading: bool) -> Row:
    """The table's row for an error, which may come from another one. `loading`: of base and data, before a trial."""
    chain = [*_chain(error)]
    return next(row for row in TABLE if row.fits(chain, loading))


def fault_of(error: BaseException, *, loading: bool) -> Fault | None:
    """Whose fault an error is; None: not known. `loading` as `row_of`."""
    return row_of(error, loading=loading).fault


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it comes from."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def failure_of(
    error: BaseException, *, loading: bool, step: int | None = None, learning_rate: float | None = None
) -> Failure:
    """An error as records and ranks' words have it."""
    return Failure(
        type=type(error).__name__,
        message=f"{error}{_hint(error)}",
        fault=fault_of(error, loading=loading),
        step=step,
        learning_rate=learning_rate,
        traceback="".join(traceback.format_exception(error)),
    )


def node_error(error: Exception, doing: str) -> NodeError:
    """What this node has not done, with the reason: for whoever restarts the workers; to be raised from `error`."""
    return NodeError(f"{doing} on node {socket.gethostname()}: {type(error).__name__}: {error}{_hint(error)}")


def _hint(error: BaseException) -> str:
    full = next((each for each in _chain(error) if _is_disk_full(each)), None)
    if full is None or isinstance(error, NodeError):
        return ""
    where = getattr(full, "filename", None)
    return f" (a disk is full{'' if where is None else f': {where}'}: {full})"


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Around the loading of a base or data. Raises NodeError for what is the node's; other errors as they are."""
    try:
        yield
    except Exception as error:
        if row_of(error, loading=True).consequence.has_record:
            raise
        if isinstance(error, OWN):
            raise
        raise node_error(error, f"{what} could not be loaded") from error


def leave_words(store: Store, key: str, attempt: tuple[int, int], rank: int, failure: Failure, about: str) -> None:
    """Leaves why this rank cannot go on. `attempt`: the driver's epoch, and the attempt's number under it; `about`:
    FAILED, INTERRUPTED or HARNESS."""
    store.storage.write_text(_path(store, key, attempt, f"{about}-rank{rank}.json"), to_json(failure))


def forget_words(store: Store, key: str, attempt: tuple[int, int]) -> None:
    """Deletes what ranks left before the attempt `attempt`."""
    for name in store.storage.names(store.trial_path(key, FOLDER)):
        if name != _name(attempt):
            store.delete_folder(store.trial_path(key, FOLDER, name))


def words_about(store: Store, key: str, attempt: tuple[int, int], about: str) -> tuple[int, Failure] | None:
    """Rank and reason of the last rank that left words about this in an attempt; None: none did."""
    names = [name for name in store.storage.names(_path(store, key, attempt)) if name.startswith(f"{about}-rank")]
    if not names:
        return None
    path = _path(store, key, attempt, names[-1])
    failure = from_json(Failure, store.storage.read_text(path) or "", store.storage.uri_of(path))
    return int(names[-1].removeprefix(f"{about}-rank").removesuffix(".json")), failure


def rank_that_failed(store: Store, key: str, attempt: tuple[int, int]) -> Failure | None:
    """The failure of a rank that failed alone in an attempt, as the trial's; None: no rank says so."""
    words = words_about(store, key, attempt, FAILED)
    if words is None:
        return None
    rank, failure = words
    message = f"rank {rank} failed: {failure.type}: {failure.message}"
    return failure.model_copy(update={"type": "RankFailedError", "message": message})


def last_words(store: Store, key: str, attempt: tuple[int, int]) -> str:
    """What the ranks of an attempt left."""
    for about, verb in ((FAILED, "failed"), (INTERRUPTED, "was interrupted"), (HARNESS, "could not measure")):
        if (words := words_about(store, key, attempt, about)) is not None:
            rank, failure = words
            return f"rank {rank} {verb}: {failure.type}: {failure.message}"
    return "they left no reason (killed, for memory perhaps, or the storage took none); see the workers' logs"


def _name(attempt: tuple[int, int]) -> str:
    return f"{attempt[0]}-{attempt[1]}"


def _path(store: Store, key: str, attempt: tuple[int, int], *name: str) -> str:
    return store.trial_path(key, FOLDER, _name(attempt), *name)
