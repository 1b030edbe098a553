"""Sums over tokens of outer products of r-vectors, per layer, collected by hooks in the backward pass.

Once per backward pass also where checkpointing runs the forward twice. What a curvature or statistic is made of differs
in the vectors alone; who sums, where, and until when is here. A model has hundreds of layers, and on a GPU every small
operation costs its launch: so there are as few per layer as can be, and one for all layers wherever that is possible.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunedlora.adapters.full_float32 import full_float32
from prunedlora.adapters.layers import AdaptedLayer, Side

Watch = Callable[[Tensor, torch.dtype], Callable[[Tensor], tuple[Tensor, Tensor | None]]]
"""At the forward pass, the factor's input and the type of the sums → at the backward pass, the gradient at the factor's
output → vectors (..., r), and how many tokens they are (a tensor of one number) where that is wanted."""


def statistics_dtype(layer: AdaptedLayer) -> torch.dtype:
    """At least float32, whatever the training dtype."""
    return torch.promote_types(layer.B.dtype, torch.float32)


class TokenSums:
    """Σ_t v_t v_tᵀ (r, r) of each layer, `watch` giving v at factor `side`; its number of tokens too if `counting`."""

    def __init__(
        self, layers: Sequence[AdaptedLayer], side: Side, watch: Watch, *, degree: int, counting: bool = False
    ) -> None:
        """`degree`: the power of the gradients in the sums."""
        self._layers = layers
        self._degree = degree
        self._watch = watch
        self._counting = counting
        self.sums: list[Tensor] = []
        self.counts: list[Tensor] = []
        self.resize()
        self._handles: list[RemovableHandle] = [
            (layer.lora_B if side == "B" else layer.lora_A).register_forward_hook(self._hook(index))
            for index, layer in enumerate(layers)
        ]

    def unscale(self, scale: float) -> None:
        """Makes of the sums, in place, those of gradients that were not multiplied by `scale`."""
        for _ in range(self._degree):  # one after the other: a power of the scale may be too large for the type
            torch._foreach_div_(self.sums, scale)

    def take(self) -> tuple[list[Tensor], list[Tensor]]:
        """Sums and counts (none unless counting) so far, and a fresh start."""
        taken = self.sums, self.counts
        self.resize()
        return taken

    def resize(self) -> None:
        """Starts afresh at the layers' present ranks."""
        ranks = [layer.rank for layer in self._layers]
        self.sums = _zeros(self._layers, [(rank, rank) for rank in ranks])
        self.counts = _zeros(self._layers, [(1,)] * len(ranks)) if self._counting else []

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
    @full_float32
    def _add(self, index: int, vectors: Tensor, count: Tensor | None) -> None:
        total = self.sums[index]
        with torch.autocast(total.device.type, enabled=False):
            v = vectors.flatten(0, -2).to(total.dtype)  # (tokens, r)
            total.addmm_(v.mT, v)
            if count is not None:
                self.counts[index] += count


def _zeros(layers: Sequence[AdaptedLayer], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """A tensor for each layer, in its type and on its device: parts of one, so that one operation clears them all."""
    kinds = [(statistics_dtype(layer), layer.B.device) for layer in layers]
    sizes = [math.prod(shape) for shape in shapes]
    parts: dict[int, Tensor] = {}
    for kind in dict.fromkeys(kinds):
        members = [index for index, other in enumerate(kinds) if other == kind]
        whole = torch.zeros(sum(sizes[index] for index in members), dtype=kind[0], device=kind[1])
        parts |= dict(zip(members, whole.split([sizes[index] for index in members]), strict=True))
    return [parts[index].view(shape) for index, shape in enumerate(shapes)]


def norm(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """‖v_t‖ over the last dimension, (..., 1)."""
    return torch.linalg.vector_norm(vectors.detach(), dim=-1, keepdim=True, dtype=dtype)
