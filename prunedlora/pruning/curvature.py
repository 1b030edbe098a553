"""Curvature: the r × r matrix H of a layer's quadratic model, from gradients of the training loss (methods.md 1.2).

A curvature is registered as a class; one object watches the layers of one adapter on the side whose factor is scored:
B (H couples the columns of B) or A (the rows of A). H is a mean over the rows of W (W = B or W = Aᵀ), so that costs of
layers of different widths compare.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunedlora.adapters.layers import AdaptedLayer, Side
from prunedlora.registry import register


class Curvature(Protocol):
    """What a curvature offers the pruner."""

    def __init__(self, layers: Sequence[AdaptedLayer], side: Side) -> None: ...

    def statistics(self) -> list[Tensor]:
        """Raw sums of this step that have to be summed over data-parallel workers, in place, before `collect`."""
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


def statistics_dtype(layer: AdaptedLayer) -> torch.dtype:
    """At least float32, whatever the training dtype."""
    return torch.promote_types(layer.B.dtype, torch.float32)


def num_rows(layer: AdaptedLayer, side: Side) -> int:
    """Rows of W: d_out for side B, d_in for side A."""
    return layer.B.shape[0] if side == "B" else layer.A.shape[1]


@register("curvature", "batch")
class BatchCurvature:
    """H = GᵀG / rows from the mean gradient G of the factor: the paper's choice.

    One step alone is noise and may be rank-deficient; the pruner averages over steps.
    """

    def __init__(self, layers: Sequence[AdaptedLayer], side: Side) -> None:
        self._layers = layers
        self._side = side

    def statistics(self) -> list[Tensor]:
        """Empty: gradients are reduced already."""
        return []

    def collect(self) -> list[Tensor]:
        """GᵀG / rows from the gradients present; zero for a layer that got none."""
        return [self._of(layer) for layer in self._layers]

    def _of(self, layer: AdaptedLayer) -> Tensor:
        gradient = (layer.B if self._side == "B" else layer.A).grad
        dtype = statistics_dtype(layer)
        if gradient is None:
            return torch.zeros(layer.rank, layer.rank, dtype=dtype, device=layer.B.device)
        G = (gradient if self._side == "B" else gradient.mT).to(dtype)
        return G.mT @ G / num_rows(layer, self._side)

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

    def __init__(self, layers: Sequence[AdaptedLayer], side: Side) -> None:
        self._layers = layers
        self._side = side
        self._sums: list[Tensor] = []
        self.resize()
        self._handles: list[RemovableHandle] = [
            (layer.lora_B if side == "B" else layer.lora_A).register_forward_hook(self._watch(index))
            for index, layer in enumerate(layers)
        ]

    def statistics(self) -> list[Tensor]:
        """Σ_t of this step, one (r, r) per layer."""
        return self._sums

    def collect(self) -> list[Tensor]:
        """H_B or H_A of this step."""
        collected = [total / num_rows(layer, self._side) for total, layer in zip(self._sums, self._layers, strict=True)]
        for total in self._sums:
            total.zero_()
        return collected

    def resize(self) -> None:
        """Zero sums at the present ranks."""
        self._sums = [
            torch.zeros(layer.rank, layer.rank, dtype=statistics_dtype(layer), device=layer.B.device)
            for layer in self._layers
        ]

    def close(self) -> None:
        """Removes the hooks; harmless when done twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _watch(self, index: int) -> Any:
        def forward_hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:
                return  # evaluation, or the first pass of a reentrant checkpoint
            dtype = self._sums[index].dtype
            given = inputs[0].detach()
            if self._side == "B":
                output.register_hook(lambda g: self._add(index, given, squared_norm(g, dtype)))
            else:
                weight = squared_norm(given, dtype)
                output.register_hook(lambda u: self._add(index, u, weight))

        return forward_hook

    @torch.no_grad()
    def _add(self, index: int, vectors: Tensor, weight: Tensor) -> None:
        """Adds Σ_t weight_t v_t v_tᵀ; `vectors` (..., r), `weight` (...)."""
        total = self._sums[index]
        with torch.autocast(total.device.type, enabled=False):
            v = vectors.flatten(0, -2).to(total.dtype)  # (tokens, r)
            total.addmm_(v.mT, v * weight.flatten()[:, None])


def squared_norm(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """‖v_t‖² over the last dimension."""
    return vectors.detach().to(dtype).square().sum(-1)
