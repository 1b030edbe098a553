"""The table of failures: whose each is, and what comes of it."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from prunedlora.adapters.reach import NoGradientError
from prunedlora.adapters.targets import TargetError
from prunedlora.adapters.verify import VerificationError
from prunedlora.config.identity import LocationError
from prunedlora.fleet import worker  # noqa: F401  # with all errors that derive from OutsideError
from prunedlora.results.record import Fault, RecordError
from prunedlora.results.storage import StoreError
from prunedlora.results.store import StaleWriterError
from prunedlora.settings_error import SettingsError
from prunedlora.tasks.data_error import DataError
from prunedlora.training.agreement import WorkersDifferError
from prunedlora.training.checkpoint import CheckpointError
from prunedlora.training.distributed import PeerLostError
from prunedlora.training.harness import HarnessError
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.memory import TooLittleMemoryError
from prunedlora.training.model import ModelError
from prunedlora.trial.execute import ON_ALL_ALIKE
from prunedlora.trial.failures import (
    INTERRUPTS,
    JUDGED,
    RECORDED,
    REPLACED,
    TooManyAttemptsError,
    failure_of,
    fault_of,
    loading,
    node_error,
    row_of,
)
from prunedlora.trial.outside_error import NodeError, OutsideError

FULL = OSError(errno.ENOSPC, "No space left on device", "/tmp/x")


def coming_from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def allocator_error() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    return caught.value


def singular() -> RuntimeError:
    with pytest.raises(RuntimeError, match="positive-definite") as caught:
        torch.linalg.cholesky(torch.full((2, 2), torch.nan))
    return caught.value


def without_credentials() -> Exception:
    """As botocore raises it, which is an optional package."""
    return type("NoCredentialsError", (Exception,), {"__module__": "botocore.exceptions"})(
        "Unable to locate credentials"
    )


NODES = [
    FULL,
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    coming_from(DataError("cannot load dataset 'x'"), FULL),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp"),
    RuntimeError("No CUDA GPUs are available"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    coming_from(ModelError("cannot load model 'x'"), OSError("429 Client Error: Too Many Requests")),
    coming_from(ModelError("cannot load model 'x'"), PermissionError("401: gated")),
    coming_from(DataError("cannot load dataset 'x'"), ConnectionError("offline")),
    coming_from(HarnessError("harness tasks need lm-eval"), ModuleNotFoundError("No module named 'lm_eval'")),
    coming_from(DataError("cannot fetch 's3://b/x.csv'"), without_credentials()),
    LocationError("'data.csv' does not exist"),
    PeerLostError("another worker is gone"),
    WorkersDifferError("the 2 workers"),
]
USERS = [DataError("a"), TargetError("b"), ModelError("c"), HarnessError("d"), SettingsError("batch_size 1")]
TRIALS = [
    NonFiniteError("loss is nan"),
    NoGradientError("no gradient reaches"),
    TooLittleMemoryError("a single example"),
    singular(),
]


@pytest.mark.parametrize("while_loading", [True, False])
@pytest.mark.parametrize(
    ("errors", "fault", "consequence"),
    [
        (NODES, "node", INTERRUPTS),
        ([StoreError("503 slow down"), coming_from(StoreError("no room"), FULL)], "storage", INTERRUPTS),
        ([CheckpointError("is broken"), RecordError("not JSON")], "storage", RECORDED),
        (USERS, "user", RECORDED),
        ([RuntimeError("CUDA error: device-side assert triggered")], "user", RECORDED),
        (TRIALS, "trial", JUDGED),
        ([TooManyAttemptsError("died 3 times"), VerificationError("gives other logits")], None, RECORDED),
        ([StaleWriterError("attempt 1 was replaced by 2")], None, REPLACED),
    ],
    ids=["node", "storage", "what is stored", "user", "its content", "trial", "not known", "replaced"],
)
def test_whose_it_is(errors: list[Exception], fault: Fault | None, consequence: object, while_loading: bool) -> None:
    for error in errors:
        row = row_of(error, loading=while_loading)
        assert (row.fault, row.consequence) == (fault, consequence), repr(error)


def test_memory_is_the_trials_only_where_less_at_once_was_tried() -> None:
    """Of the optimizer's state, of a check, of an event nothing was halved: nobody's, and the study learns nothing."""
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        allocator_error(),
        RuntimeError("CUDA error: out of memory"),
    ):
        assert fault_of(error, loading=False) is None
        assert fault_of(error, loading=True) == "node"


def test_what_is_not_finite_is_met_by_all_workers_alike() -> None:
    assert isinstance(singular(), ON_ALL_ALIKE)


def test_what_nobody_foresees() -> None:
    """Content of data makes their code fail in any way; the rest of loading is the node's, of training not known."""
    assert fault_of(ZeroDivisionError("no such puzzle"), loading=True) == "user"
    assert fault_of(RuntimeError("failed reading zip archive"), loading=True) == "node"
    assert fault_of(RuntimeError("shapes"), loading=False) is None
    assert fault_of(TypeError("none"), loading=False) is None
    assert fault_of(ValueError("zip() argument 2 is shorter"), loading=False) is None
    assert fault_of(ValueError("no such puzzle"), loading=True) == "user"


def every_subclass(kind: type[Exception]) -> Iterator[type[Exception]]:
    for below in kind.__subclasses__():
        yield below
        yield from every_subclass(below)


def test_no_error_from_outside_is_missed() -> None:
    """Whoever runs trials derives its own: fleet/ has some, and any other counts as well."""

    class LaterError(OutsideError):
        pass

    known = {kind.__name__ for kind in every_subclass(OutsideError)}
    assert known >= {"NodeError", "BoardLostError", "SharedStorageError", "OtherDataError", "LaterError"}
    for kind in every_subclass(OutsideError):
        for while_loading in (True, False):
            assert row_of(kind("x"), loading=while_loading).consequence == INTERRUPTS, kind


def test_what_was_being_handled_counts_only_where_an_error_comes_from_it() -> None:
    """A user's `except FileNotFoundError: raise ValueError("bad option")` is the user's."""

    def within(cause: OSError | None) -> Exception:
        try:
            try:
                raise FULL
            except OSError:
                if cause is not None:
                    raise DataError("x") from cause
                raise DataError("x")  # noqa: B904
        except DataError as error:
            return error

    for while_loading in (True, False):
        assert fault_of(within(FULL), loading=while_loading) == "node"
        assert row_of(within(None), loading=while_loading) == row_of(DataError("x"), loading=while_loading)
    circle = ValueError("a")
    circle.__cause__ = coming_from(ValueError("b"), circle)
    assert fault_of(circle, loading=True) == "user"


def test_a_full_disk_is_told_as_one() -> None:
    with pytest.raises(OSError, match="No space left") as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    told = str(node_error(coming_from(DataError("cannot load dataset 'x'"), caught.value), "data could not be loaded"))
    assert told.startswith("data could not be loaded on node ")
    assert told.endswith("DataError: cannot load dataset 'x' (a disk is full: [Errno 28] No space left on device)")
    failure = failure_of(coming_from(DataError("cannot load"), FULL), loading=True)
    assert failure.message == "cannot load (a disk is full: /tmp/x: [Errno 28] No space left on device: '/tmp/x')"
    assert failure.fault == "node"


def test_loading_turns_what_is_the_nodes(tmp_path: Path) -> None:
    with (
        pytest.raises(NodeError, match=r"the base could not be loaded on node \S+: FileNotFoundError: "),
        loading("the base"),
    ):
        (tmp_path / "gone").read_text()
    with pytest.raises(DataError, match=r"^no column$"), loading("the base"):
        raise DataError("no column")
    with pytest.raises(StoreError, match=r"^503$"), loading("the base"):
        raise StoreError("503")


def test_words_of_a_user_s_error_fill_no_disk() -> None:
    told = DataError("score raised on the answer 'No space left on device'")
    assert (row_of(told, loading=False).consequence, fault_of(told, loading=True)) == (RECORDED, "user")
    assert failure_of(told, loading=False).message == str(told)
    assert fault_of(coming_from(HarnessError("x"), SafetensorError("No space left on device")), loading=True) == "node"
