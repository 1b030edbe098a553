"""Statistics of components beside the curvature: what some criteria and bases need, collected while training.

Registered like curvatures and with the same protocol (curvature.py): raw sums that add up over data-parallel workers,
`collect` for a step's values, one tensor per layer, (r, r) or (r,). Hooks count a token when the gradient at its output
is not zero: padding does not, nor does a token that the loss does not see. Collected in the backward pass, so once also
where checkpointing runs the forward twice.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.pruning.curvature import statistics_dtype
from prunedlora.registry import register


@register("statistic", "activation")
class ActivationStatistic:
    """G_h = mean over tokens of h hᵀ (r, r), h = A x the input of lora_B."""

    def __init__(self, layers: Sequence[AdaptedLayer]) -> None:
        self._layers = layers
        self._sums: list[Tensor] = []
        self._counts: list[Tensor] = []
        self.resize()
        self._handles: list[RemovableHandle] = [
            layer.lora_B.register_forward_hook(self._watch(index)) for index, layer in enumerate(layers)
        ]

    def statistics(self) -> list[Tensor]:
        """Σ_t h hᵀ and the number of tokens, per layer."""
        return [*self._sums, *self._counts]

    def collect(self) -> list[Tensor]:
        """G_h of this step; zero for a layer that saw no token."""
        means = [total / count.clamp(min=1) for total, count in zip(self._sums, self._counts, strict=True)]
        for tensor in self.statistics():
            tensor.zero_()
        return means

    def resize(self) -> None:
        """Zero sums at the present ranks."""
        self._sums = _squares(self._layers)
        self._counts = [torch.zeros(1, dtype=total.dtype, device=total.device) for total in self._sums]

    def close(self) -> None:
        """Removes the hooks; harmless when done twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _watch(self, index: int) -> Any:
        def forward_hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                h = inputs[0].detach()
                output.register_hook(lambda g: self._add(index, h, g))

        return forward_hook

    @torch.no_grad()
    def _add(self, index: int, h: Tensor, gradient: Tensor) -> None:
        total = self._sums[index]
        with torch.autocast(total.device.type, enabled=False):
            counts = (gradient != 0).any(-1).flatten().to(total.dtype)
            v = h.flatten(0, -2).to(total.dtype)
            total.addmm_(v.mT, v * counts[:, None])
            self._counts[index] += counts.sum()


@register("statistic", "output_gradient")
class OutputGradientStatistic:
    """G_u = Σ over the batch's tokens of u uᵀ (r, r), u = s Bᵀ δ the gradient of the summed loss at lora_A's output.

    A sum where G_h is a mean: their product estimates the change of the summed loss, which layers that see different
    numbers of tokens share.
    """

    def __init__(self, layers: Sequence[AdaptedLayer]) -> None:
        self._layers = layers
        self._sums: list[Tensor] = []
        self.resize()
        self._handles: list[RemovableHandle] = [
            layer.lora_A.register_forward_hook(self._watch(index)) for index, layer in enumerate(layers)
        ]

    def statistics(self) -> list[Tensor]:
        """Σ_t u uᵀ per layer."""
        return self._sums

    def collect(self) -> list[Tensor]:
        """G_u of this step."""
        collected = [total.clone() for total in self._sums]
        for total in self._sums:
            total.zero_()
        return collected

    def resize(self) -> None:
        """Zero sums at the present ranks."""
        self._sums = _squares(self._layers)

    def close(self) -> None:
        """Removes the hooks; harmless when done twice."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _watch(self, index: int) -> Any:
        def forward_hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda u: self._add(index, u))

        return forward_hook

    @torch.no_grad()
    def _add(self, index: int, gradient: Tensor) -> None:
        total = self._sums[index]
        with torch.autocast(total.device.type, enabled=False):
            u = gradient.flatten(0, -2).to(total.dtype)
            total.addmm_(u.mT, u)


@register("statistic", "sensitivity")
class SensitivityStatistic:
    """Σ |∂L/∂A ⊙ A|_j + Σ |∂L/∂B ⊙ B|_j (r,) of the mean gradient: the first-order term of LLM-Pruner, per component.

    https://arxiv.org/abs/2305.11627, there from one batch of calibration; here averaged over steps, since one step
    alone is noise.
    """

    def __init__(self, layers: Sequence[AdaptedLayer]) -> None:
        self._layers = layers

    def statistics(self) -> list[Tensor]:
        """Empty: gradients are reduced already."""
        return []

    def collect(self) -> list[Tensor]:
        """The sums from the gradients present; zero for a layer that got none."""
        return [self._of(layer) for layer in self._layers]

    def _of(self, layer: AdaptedLayer) -> Tensor:
        dtype = statistics_dtype(layer)
        total = torch.zeros(layer.rank, dtype=dtype, device=layer.B.device)
        for parameter, dim in ((layer.A, 1), (layer.B, 0)):
            if parameter.grad is not None:
                total += (parameter.grad.to(dtype) * parameter.detach().to(dtype)).abs().sum(dim).to(total.device)
        return total

    def resize(self) -> None:
        """Nothing is kept between steps."""

    def close(self) -> None:
        """No hooks."""


def _squares(layers: Sequence[AdaptedLayer]) -> list[Tensor]:
    return [
        torch.zeros(layer.rank, layer.rank, dtype=statistics_dtype(layer), device=layer.B.device) for layer in layers
    ]
