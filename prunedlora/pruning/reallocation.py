"""Reallocation of a fixed budget of components between layers, by gates (L1RA, https://arxiv.org/abs/2509.04884).

Pure functions on the gates c of all layers, (r_l,) each, all in [0, 1] (methods.md section 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reallocation:
    """Which components go, and where as many new ones come."""

    removed: list[list[int]]
    """Per layer, component indices, rising."""
    num_added: list[int]
    """Per layer."""


def shrink_gates(gate: Tensor, penalty: float) -> Tensor:
    """The proximal step of an L1 penalty on gates in [0, 1]: clip(max(0, c − penalty), 0, 1).

    Decoupled from the optimizer's step, whose result `gate` is; `penalty` is η_c λ of one step.
    """
    return (gate - penalty).clamp(0.0, 1.0)


def reallocate(gates: Sequence[Tensor], threshold: float) -> Reallocation:
    """Takes away the components whose gate is below `threshold` and gives as many to the layers that need them most.

    At least one component of every layer stays, the one with the largest gate. What becomes free goes one at a time,
    round-robin, to the layers whose smallest remaining gate is largest, those that just lost some excluded, unless all
    of them did. Ties go by layer. The number of components stays the same, whatever happens.

    Raises ValueError for a layer without components: a budget below one per layer.
    """
    if empty := [index for index, gate in enumerate(gates) if gate.numel() == 0]:
        raise ValueError(f"the budget is below one component per layer: layer {empty[0]} has none")
    removed, smallest = [], []
    for values in [gate.detach().double().cpu() for gate in gates]:
        goes = values < threshold
        goes[values.argmax()] = False
        removed.append(torch.nonzero(goes).flatten().tolist())
        smallest.append(float(values[~goes].min()))
    takers = [index for index, lost in enumerate(removed) if not lost] or list(range(len(removed)))
    takers.sort(key=lambda index: (-smallest[index], index))
    num_added = [0] * len(removed)
    for turn in range(sum(len(lost) for lost in removed)):
        num_added[takers[turn % len(takers)]] += 1
    return Reallocation(removed, num_added)
