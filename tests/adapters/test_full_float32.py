"""Full precision inside, and outside whatever was set before, by either of torch's ways of setting it."""

import threading

import pytest
import torch

from prunedlora.adapters.full_float32 import fast_float32, full_float32

BY_BACKEND = pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch before 2.9")


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_set_by_name(precision, float32_products):
    torch.set_float32_matmul_precision(precision)
    with full_float32:
        assert torch.get_float32_matmul_precision() == "highest"
        assert float32_products()
    assert torch.get_float32_matmul_precision() == precision


def test_set_by_the_older_flag(float32_products):
    torch.backends.cuda.matmul.allow_tf32 = True
    with full_float32:
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32


@BY_BACKEND
def test_set_for_all_backends_is_inherited_again(float32_products):
    torch.backends.fp32_precision = "tf32"
    with full_float32:
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert float32_products()
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    torch.backends.fp32_precision = "ieee"  # as before, what is set above holds below
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


@BY_BACKEND
def test_set_for_one_backend(float32_products):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with full_float32:
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_the_last_one_out_puts_it_back(float32_products):
    """Within itself, after an error, and from several threads at once, as hooks on several devices are."""
    torch.set_float32_matmul_precision("high")

    @full_float32
    def inner():
        assert float32_products()
        raise KeyError

    with full_float32:
        with pytest.raises(KeyError):
            inner()
        assert float32_products()
    assert torch.get_float32_matmul_precision() == "high"

    entered, leave = threading.Event(), threading.Event()

    def other():
        with full_float32:
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with full_float32:
        thread.start()
        entered.wait()
    assert float32_products()
    leave.set()
    thread.join()
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize("by_backend", [False, pytest.param(True, marks=BY_BACKEND)])
def test_fast_for_a_while_with_full_precision_inside(by_backend, float32_products):
    """As a training step is computed and its statistics, where a user has set nothing, or what he pleases."""
    if by_backend:
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    with fast_float32(True):
        assert not float32_products()
        assert torch.backends.cuda.matmul.allow_tf32
        with full_float32:
            assert float32_products()
        assert not float32_products()
        with pytest.raises(KeyError), fast_float32(True):
            raise KeyError
        assert not float32_products()
    assert float32_products()
    with fast_float32(False):
        assert float32_products()
