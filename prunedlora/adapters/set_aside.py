"""Other factors in an adapter for a while: a smaller adapter is measured, and the training goes on with its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.adapters.shrink import component_parameters, declare_rank, set_factors


@contextmanager
def set_aside(layers: Sequence[AdaptedLayer]) -> Iterator[None]:
    """Within, copies of the factors stand in for the layers' own, gates folded into A (and one themselves); they may be
    given other values and ranks (`shrink.set_factors` without an optimizer), and get gradients of their own.

    Afterwards the Parameters that were there before are back, the same objects, which an optimizer knows.
    """
    own = [(layer, component_parameters(layer), layer.rank) for layer in layers]
    try:
        for layer in layers:
            A, gate = layer.A.detach(), layer.gate
            if gate is not None:
                A = gate.detach()[:, None] * A
            set_factors(layer, A, layer.B, None, None if gate is None else torch.ones_like(gate))
        yield
    finally:
        for layer, parameters, rank in own:
            for module, name, parameter in parameters:
                setattr(module, name, parameter)
            declare_rank(layer, rank)
