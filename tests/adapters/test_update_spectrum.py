"""Singular values and distances from factors, against the product made whole."""

import pytest
import torch
from torch import Tensor

from prunedlora.adapters.update_spectrum import distance, singular_values


def drawn(d_out: int, d_in: int, rank: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, d_in, generator=generator, dtype=torch.float64)
    return A, torch.randn(d_out, rank, generator=generator, dtype=torch.float64) * torch.logspace(0, -6, rank)


@pytest.mark.parametrize(("d_out", "d_in", "rank"), [(9, 7, 4), (3, 8, 5), (8, 2, 4), (5, 5, 1)])
def test_singular_values_are_those_of_the_product(d_out: int, d_in: int, rank: int) -> None:
    A, B = drawn(d_out, d_in, rank)
    found, expected = singular_values((A, B), 1.5), torch.linalg.svdvals(1.5 * B @ A)[:rank]
    expected = torch.cat([expected, expected.new_zeros(rank - len(expected))])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_a_distance_is_that_of_the_products_whatever_their_ranks() -> None:
    one, other = drawn(6, 8, 4), drawn(6, 8, 2, seed=1)
    expected = float((one[1] @ one[0] - other[1] @ other[0]).norm())
    assert distance(one, other) == pytest.approx(expected, rel=1e-12)
    assert distance(one, one) < 1e-13
