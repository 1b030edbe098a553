"""Products of float32 matrices in full precision, whatever the user has allowed for training (TF32, bfloat16 parts)."""

from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any

import torch


class _FullFloat32(ContextDecorator):
    """The setting is one for the whole process, and hooks run on a thread for each device: the first one in makes it,
    the last one out puts it back."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._num_inside = 0
        self._restore: Callable[[], None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._restore = _set_full()
            self._num_inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0 and self._restore is not None:
                self._restore()


def _set_full() -> Callable[[], None] | None:
    """Sets full precision and returns what puts back what was; None where it was set."""
    return _set("highest", "ieee")


def _set(precision: str, backend_precision: str) -> Callable[[], None] | None:
    """Sets a precision, under the name of either way, and returns what puts back what was; None where it was set."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by backend (torch 2.9 and later, transformers' tf32=True), which this name cannot tell
        return _set_backends(backend_precision)
    if before == precision:
        return None
    torch.set_float32_matmul_precision(precision)
    return partial(torch.set_float32_matmul_precision, before)


def _set_backends(precision: str) -> Callable[[], None]:
    torch_backends: Any = torch.backends
    backends = [torch_backends.cuda.matmul, torch_backends.mkldnn.matmul]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = precision

    def restore() -> None:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = "none"  # what stands above it, torch.backends.fp32_precision, holds again
            if backend.fp32_precision != precision:
                backend.fp32_precision = precision

    return restore


@contextmanager
def fast_float32(on: bool) -> Iterator[None]:
    """Products of float32 matrices in TF32, where `on`: on a GPU several times as fast, with eleven bits. For the
    model's own passes in training; full_float32 holds inside of it."""
    restore = _set("high", "tf32") if on else None
    try:
        yield
    finally:
        if restore is not None:
            restore()


full_float32 = _FullFloat32()
"""`with full_float32:` or `@full_float32`; may be entered again inside of itself and from several threads.

What is statistics, an event or a verification is computed under it; the model's own passes in training are not
(fast_float32).
Convolutions are left alone: none is in the first two, and both sides of a verification have the same ones.
"""
