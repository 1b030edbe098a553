"""Whose fault a failure is, in one table that all read who decide: is there a record, what is the study told, where is
the trial tried again."""

import errno
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from safetensors import SafetensorError

from prunedlora.adapters.reach import NoGradientError, ReachError
from prunedlora.adapters.targets import TargetError
from prunedlora.adapters.verify import VerificationError
from prunedlora.config.identity import LocationError
from prunedlora.results.record import Failure, Fault, RecordError
from prunedlora.results.storage import StoreError
from prunedlora.results.store import StaleWriterError
from prunedlora.settings_error import SettingsError
from prunedlora.tasks.data_error import DataError
from prunedlora.training.agreement import WorkersDifferError
from prunedlora.training.checkpoint import CheckpointError
from prunedlora.training.distributed import PeerLostError
from prunedlora.training.harness import HarnessError
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.memory import TooLittleMemoryError, is_out_of_memory
from prunedlora.training.model import ModelError
from prunedlora.trial.outside_error import NodeError, OutsideError

LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
DISK_FULL_WORDS = ("No space left on device", "Disk quota exceeded")
"""Of libraries that raise no OSError (safetensors)."""
DEVICE_WORDS = ("CUDA error", "CUDA driver error", "CUDA-capable", "CUDA GPUs", "cuDNN", "CUBLAS_", "NCCL", "CUDNN_")
NETWORK = (
    *("aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"),
    *("aiobotocore", "botocore", "gcsfs", "google"),
)
"""Packages of which many an error is no OSError."""


class TooManyAttemptsError(RuntimeError):
    """A trial that was interrupted every time it was started."""


class Consequence(Enum):
    """What comes of a failure. Of a record the study learns by its `fault` (study/rebuild.py), "trial" where it is
    JUDGED and nowhere else; a trial with one is tried again on request, with --retry-failed."""

    JUDGED = "a record, by which the study hears that these settings are bad"
    RECORDED = "a record, of which the study learns nothing"
    INTERRUPTS = "no record: the trial goes on from its last checkpoint, by workers started anew, here or elsewhere"
    REPLACED = "no record: who has taken over tries already"

    @property
    def has_record(self) -> bool:
        return self in (Consequence.JUDGED, Consequence.RECORDED)


JUDGED, RECORDED, INTERRUPTS, REPLACED = Consequence


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
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    # What a user's code or data say is theirs, whatever the words.
    return not isinstance(error, USERS) and _says(error, *DISK_FULL_WORDS)


def _is_device_assert(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _says(error, "device-side assert")


def _is_device(error: BaseException) -> bool:
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and _says(error, *DEVICE_WORDS)
    )


def _is_of_network(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in NETWORK


USERS = (DataError, HarnessError, ModelError, SettingsError, TargetError)
"""What says that configuration or content is wrong. Another ValueError of a training may be anybody's."""
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
    # A curvature that cannot be factorised is one that is not finite, or near it: a training that diverges.
    Row("trial", JUDGED, (NonFiniteError, NoGradientError, LinAlgError)),
    Row("user", RECORDED, _is_device_assert),  # a token beyond the embedding, a class that is none
    Row("trial", JUDGED, (TooLittleMemoryError,)),  # at the smallest passes (training/loop.py)
    Row(None, RECORDED, is_out_of_memory, loading=False),  # where nothing was made smaller
    Row("node", INTERRUPTS, is_out_of_memory, loading=True),  # no setting of the search is in memory yet
    Row("node", INTERRUPTS, _is_device),
    # Files, disks, sockets, the Hub, packages: the driver had them when it looked (sweep/preflight.py).
    Row("node", INTERRUPTS, (OSError, ImportError, LocationError, SafetensorError)),
    Row("node", INTERRUPTS, _is_of_network),
    # An export that is not what was trained says nothing of the settings: a library, or this package, is wrong.
    Row(None, RECORDED, (VerificationError,)),
    Row("user", RECORDED, USERS),
    Row("user", RECORDED, CONTENT, loading=True),
    Row("node", INTERRUPTS, (Exception,), loading=True),
    Row(None, RECORDED, (Exception,), loading=False),
)
"""The first row that fits counts."""


def row_of(error: BaseException, *, loading: bool) -> Row:
    """The table's row for an error, which may come from another one. `loading`: of base and data, before a trial."""
    chain = [*causes(error)]
    return next(row for row in TABLE if row.fits(chain, loading))


def fault_of(error: BaseException, *, loading: bool) -> Fault | None:
    """Whose fault an error is; None: not known. `loading` as `row_of`."""
    return row_of(error, loading=loading).fault


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it was raised from. What was being handled when it was raised does not count: a library
    that turns a lost file or network into an error of its own says so, or raises an OSError, while a user's code
    that says "bad option" for a missing file says what it means."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__


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
    full = next((each for each in causes(error) if _is_disk_full(each)), None)
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
