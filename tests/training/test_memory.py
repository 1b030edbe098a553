"""Errors that less at once may help, and those that it does not."""

import pytest
import torch

from prunedlora.training.memory import TooLittleMemoryError, halved, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "4 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] data. not enough memory: you tried to allocate 4 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
        TooLittleMemoryError("a single example"),
    ],
    ids=str,
)
def test_too_little_memory(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("CUDA error: out of memory"),
        OSError(28, "No space left on device"),
        OSError(12, "Cannot allocate memory"),  # a process that could not be forked, say: no pass of ours
    ],
    ids=str,
)
def test_something_else(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_what_torch_says_of_this_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_halves_end_at_one() -> None:
    assert [halved(13, times) for times in range(6)] == [13, 6, 3, 1, 1, 1]
