"""SVD truncation: train LoRA at a large rank, then cut B A down to each smaller rank, without further training.

Every adapter costs nothing but its evaluation: the free curve that a method which prunes while training must beat.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from prunedlora.adapters.shrink import set_factors
from prunedlora.methods.method import Method
from prunedlora.registry import register


@dataclass(frozen=True)
class SvdSettings:
    ranks: list[int]
    """Ranks to truncate to, falling."""


def truncate(A: Tensor, B: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors (rank, d_in), (d_out, rank) of the best approximation of B A in the Frobenius norm (Eckart-Young).

    `A` (r, d_in), `B` (d_out, r). The singular values are shared evenly between the factors. Computed in float64 from
    r × r cores: with Aᵀ = Q_A R_A and B = Q_B R_B, B A = Q_B (R_B R_Aᵀ) Q_Aᵀ.
    """
    Q_A, R_A = torch.linalg.qr(A.double().mT)
    Q_B, R_B = torch.linalg.qr(B.double())
    U, S, Vh = torch.linalg.svd(R_B @ R_A.mT)
    root = S[:rank].sqrt()
    return (root[:, None] * (Vh[:rank] @ Q_A.mT)).to(A.dtype), (Q_B @ U[:, :rank] * root).to(B.dtype)


@register("method", "svd")
class Svd(Method):
    """A fixed-rank adapter that is truncated after its training."""

    section = "svd"
    settings_type = SvdSettings
    truncates = True
    settings: SvdSettings

    def truncations(self) -> Iterator[int]:
        """One rank after the other; each truncates what the one before left, which is the same as from the start."""
        for rank in self.settings.ranks:
            for layer in self._layers:
                set_factors(layer, *truncate(layer.A.detach(), layer.B.detach(), rank), None)
            yield rank
