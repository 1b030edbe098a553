"""Sums over tokens of weighted outer products of r-vectors, per layer, collected by hooks in the backward pass.

Once per backward pass also where checkpointing runs the forward twice. What a curvature or statistic is made of differs
in the vectors and weights alone; who sums, where, and until when is here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunedlora.adapters.layers import AdaptedLayer, Side

Watch = Callable[[Tensor, torch.dtype], Callable[[Tensor], tuple[Tensor, Tensor]]]
"""At the forward pass, the factor's input and the type of the sums → at the backward pass, the gradient at the factor's
output → vectors (..., r) and weights (...)."""


def statistics_dtype(layer: AdaptedLayer) -> torch.dtype:
    """At least float32, whatever the training dtype."""
    return torch.promote_types(layer.B.dtype, torch.float32)


class TokenSums:
    """Σ_t w_t v_t v_tᵀ (r, r) and Σ_t w_t (1,) of each layer, where `watch` gives v and w at factor `side`."""

    def __init__(self, layers: Sequence[AdaptedLayer], side: Side, watch: Watch) -> None:
        self._layers = layers
        self._watch = watch
        self.sums: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.resize()
        self._handles: list[RemovableHandle] = [
            (layer.lora_B if side == "B" else layer.lora_A).register_forward_hook(self._hook(index))
            for index, layer in enumerate(layers)
        ]

    def take(self) -> tuple[list[Tensor], list[Tensor]]:
        """Sums and weights so far, and a fresh start."""
        taken = [total.clone() for total in self.sums], [weight.clone() for weight in self.weights]
        for tensor in (*self.sums, *self.weights):
            tensor.zero_()
        return taken

    def resize(self) -> None:
        """Starts afresh at the layers' present ranks."""
        self.sums, self.weights = [], []
        for layer in self._layers:
            dtype, device = statistics_dtype(layer), layer.B.device
            self.sums.append(torch.zeros(layer.rank, layer.rank, dtype=dtype, device=device))
            self.weights.append(torch.zeros(1, dtype=dtype, device=device))

    def close(self) -> None:
        """Removes the hooks; harmless when done twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, index: int) -> Any:
        def forward_hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:  # not in evaluation, nor in the first pass of a reentrant checkpoint
                of_gradient = self._watch(inputs[0].detach(), self.sums[index].dtype)
                output.register_hook(lambda gradient: self._add(index, *of_gradient(gradient)))

        return forward_hook

    @torch.no_grad()
    def _add(self, index: int, vectors: Tensor, weights: Tensor) -> None:
        total = self.sums[index]
        with torch.autocast(total.device.type, enabled=False):
            v = vectors.flatten(0, -2).to(total.dtype)  # (tokens, r)
            w = weights.flatten().to(total.dtype)
            total.addmm_(v.mT, v * w[:, None])
            self.weights[index] += w.sum()


def squared_norm(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """‖v_t‖² over the last dimension."""
    return vectors.detach().to(dtype).square().sum(-1)
