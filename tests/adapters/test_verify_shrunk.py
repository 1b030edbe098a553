from dataclasses import replace

import pytest
import torch

from prunedlora.adapters.plain import PlainLayer
from prunedlora.adapters.verify import VerificationError
from prunedlora.adapters.verify_shrunk import verify_shrunk


@pytest.fixture
def held():
    """Six components, of which the second and the fourth are gone."""
    generator = torch.Generator().manual_seed(0)
    A, B = torch.randn(6, 5, generator=generator), torch.randn(4, 6, generator=generator)
    A[[1, 3]], B[:, [1, 3]] = 0.0, 0.0
    return PlainLayer("q", A, B, False)


def kept(layer, index):
    return replace(layer, A=layer.A[index], B=layer.B[:, index])


def test_what_is_zero_may_go(held):
    verify_shrunk([held], [kept(held, [0, 2, 4, 5])])
    verify_shrunk([held], [kept(held, [0, 1, 2, 4, 5])])
    nothing = replace(held, B=torch.zeros(4, 6))  # a row of A alone does nothing
    verify_shrunk([nothing], [kept(nothing, [])])


@pytest.mark.parametrize("index", [[0, 2, 4], [2, 0, 4, 5], []])
def test_what_is_not_zero_may_not_go(index, held):
    with pytest.raises(VerificationError, match=rf"layer 'q' had 4 components .*, and has {len(index)} now"):
        verify_shrunk([held], [kept(held, index)])


def test_nor_may_it_change(held):
    other = kept(held, [0, 2, 4, 5])
    with pytest.raises(VerificationError, match="layer 'q' had 4 components"):
        verify_shrunk([held], [replace(other, B=other.B * (1 + 1e-6))])
    with pytest.raises(VerificationError):
        verify_shrunk([replace(held, A=held.A * torch.nan)], [replace(held, A=held.A * torch.nan)])
