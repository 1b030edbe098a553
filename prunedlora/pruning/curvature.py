"""Curvature: the r × r matrix H of a layer's quadratic model, from gradients of the training loss (methods.md 1.2).

A curvature is registered as a class; one object watches the layers of one adapter on the side whose factor is scored:
B (H couples the columns of B) or A (the rows of A). H is a mean over the rows of W (W = B or W = Aᵀ), so that costs of
layers of different widths compare.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from prunedlora.adapters.layers import AdaptedLayer, Side
from prunedlora.pruning.token_sums import TokenSums, norm, statistics_dtype
from prunedlora.registry import register


class Curvature(Protocol):
    """What a curvature offers the pruner."""

    reads_gradients: ClassVar[bool]
    """Whether H is made of the factors' own gradients, of the mean loss, which must then be complete and unclipped;
    else hooks see the backward passes, and H is of the loss that those begin at, a sum over targets in our loop."""

    def __init__(self, layers: Sequence[AdaptedLayer], side: Side) -> None: ...

    def statistics(self) -> list[Tensor]:
        """Raw sums of this step that have to be summed over data-parallel workers, in place, before `collect`."""
        ...

    def unscale(self, scale: float) -> None:
        """Makes of the sums over the workers, in place, those of losses that were not multiplied by `scale`, a power of
        two: before `collect`."""
        ...

    def collect(self) -> list[Tensor]:
        """H of this step for every layer, (r, r) in at least float32, and a fresh start for the next step."""
        ...

    def resize(self) -> None:
        """Starts afresh at the layers' present ranks."""
        ...

    def close(self) -> None:
        """Removes hooks."""
        ...


def per_row(totals: list[Tensor], layers: Sequence[AdaptedLayer], side: Side) -> list[Tensor]:
    """Divided by the rows of each layer's W: d_out for side B, d_in for side A."""
    rows = [float(layer.B.shape[0] if side == "B" else layer.A.shape[1]) for layer in layers]
    return list(torch._foreach_div(totals, rows))


@register("curvature", "batch")
class BatchCurvature:
    """H = GᵀG / rows from the mean gradient G of the factor: the paper's choice.

    One step alone is noise and may be rank-deficient; the pruner averages over steps.
    """

    reads_gradients = True

    def __init__(self, layers: Sequence[AdaptedLayer], side: Side) -> None:
        self._layers = layers
        self._side = side

    def statistics(self) -> list[Tensor]:
        """Empty: gradients are reduced already."""
        return []

    def unscale(self, scale: float) -> None:
        """Nothing to do: gradients come unscaled."""

    def collect(self) -> list[Tensor]:
        """GᵀG / rows from the gradients present; zero for a layer that got none."""
        return per_row([self._of(layer) for layer in self._layers], self._layers, self._side)

    def _of(self, layer: AdaptedLayer) -> Tensor:
        gradient = (layer.B if self._side == "B" else layer.A).grad
        dtype = statistics_dtype(layer)
        if gradient is None:
            return torch.zeros(layer.rank, layer.rank, dtype=dtype, device=layer.B.device)
        G = (gradient if self._side == "B" else gradient.mT).to(dtype)
        return G.mT @ G

    def resize(self) -> None:
        """Nothing is kept between steps."""

    def close(self) -> None:
        """No hooks."""


@register("curvature", "token")
class TokenCurvature:
    """The empirical Fisher at token granularity, pooled over the rows of W (not in the paper).

    With h = A x the input of lora_B, g the gradient of the summed loss at lora_B's output (PEFT multiplies that output
    by the scaling, so g = s δ holds it), x the input of lora_A after dropout, u the gradient at lora_A's output:

        H_B = Σ_t ‖g_t‖² h_t h_tᵀ / d_out        H_A = Σ_t ‖x_t‖² u_t u_tᵀ / d_in

    It does not cancel over the batch, and padding does not count because its gradient is zero. Collected by hooks on
    the outputs' gradients, so once per backward pass also where checkpointing runs the forward twice. For side A only
    the norm of x is held until then, since x itself is what checkpointing saves memory on.
    """

    reads_gradients = False

    def __init__(self, layers: Sequence[AdaptedLayer], side: Side) -> None:
        self._layers = layers
        self._side = side
        self._tokens = TokenSums(layers, side, _weighted_inputs if side == "B" else _weighted_gradients, degree=2)

    def statistics(self) -> list[Tensor]:
        """Σ_t of this step, one (r, r) per layer."""
        return self._tokens.sums

    def unscale(self, scale: float) -> None:
        """Divides by the square of `scale`."""
        self._tokens.unscale(scale)

    def collect(self) -> list[Tensor]:
        """H_B or H_A of this step."""
        sums, _ = self._tokens.take()
        return per_row(sums, self._layers, self._side)

    def resize(self) -> None:
        """Zero sums at the present ranks."""
        self._tokens.resize()

    def close(self) -> None:
        """Removes the hooks; harmless when done twice."""
        self._tokens.close()


def _weighted_inputs(h: Tensor, dtype: torch.dtype) -> Callable[[Tensor], tuple[Tensor, None]]:
    return lambda g: (h * norm(g, dtype), None)


def _weighted_gradients(x: Tensor, dtype: torch.dtype) -> Callable[[Tensor], tuple[Tensor, None]]:
    weight = norm(x, dtype)
    return lambda u: (u * weight, None)
