"""Prove that dropping what was held at zero has left the adapter as it was."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prunedlora.adapters.plain import PlainLayer
from prunedlora.adapters.verify import VerificationError


def verify_shrunk(before: Sequence[PlainLayer], after: Sequence[PlainLayer]) -> None:
    """Compares the components that do something (row of A and column of B are not zero), in their order, bit for bit.

    B A is their sum, so no logits are needed, which would be computed by other kernels at another rank. `before` and
    `after`: the same layers in the same order. Raises VerificationError naming a layer that has changed.
    """
    for old, new in zip(before, after, strict=True):
        (A, B), (other_A, other_B) = _live(old), _live(new)
        if not (torch.equal(A, other_A) and torch.equal(B, other_B)):
            raise VerificationError(
                f"layer {new.name!r} had {len(A)} components that were not zero when training ended, and has "
                f"{len(other_A)} now, which are others: something has written to components that had been removed"
            )


def _live(layer: PlainLayer) -> tuple[Tensor, Tensor]:
    live = layer.A.any(1) & layer.B.any(0)
    return layer.A[live], layer.B[:, live]
