"""Statistics of components beside the curvature: what some criteria and bases need, collected while training.

Registered like curvatures and with the same protocol (curvature.py): raw sums that add up over data-parallel workers,
`collect` for a step's values, one tensor per layer, (r, r) or (r,). Hooks count a token when the gradient at its output
is not zero: padding does not, nor does a token that the loss does not see. Collected in the backward pass, so once also
where checkpointing runs the forward twice.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.pruning.token_sums import TokenSums, statistics_dtype
from prunedlora.registry import register


@register("statistic", "activation")
class ActivationStatistic:
    """G_h = mean over tokens of h hᵀ (r, r), h = A x the input of lora_B."""

    reads_gradients = False

    def __init__(self, layers: Sequence[AdaptedLayer]) -> None:
        self._tokens = TokenSums(layers, "B", _inputs_that_count, degree=0, counting=True)

    def statistics(self) -> list[Tensor]:
        """Σ_t h hᵀ and the number of tokens, per layer."""
        return [*self._tokens.sums, *self._tokens.counts]

    def unscale(self, scale: float) -> None:
        """Nothing to do: of gradients it is only seen whether they are zero."""

    def collect(self) -> list[Tensor]:
        """G_h of this step; zero for a layer that saw no token."""
        sums, counts = self._tokens.take()
        return [total / count.clamp(min=1) for total, count in zip(sums, counts, strict=True)]

    def resize(self) -> None:
        """Zero sums at the present ranks."""
        self._tokens.resize()

    def close(self) -> None:
        """Removes the hooks."""
        self._tokens.close()


def _inputs_that_count(h: Tensor, dtype: torch.dtype) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def of_gradient(g: Tensor) -> tuple[Tensor, Tensor]:
        counts = (g != 0).any(-1, keepdim=True)
        return h * counts, counts.sum()

    return of_gradient


@register("statistic", "output_gradient")
class OutputGradientStatistic:
    """G_u = Σ over the batch's tokens of u uᵀ (r, r), u = s Bᵀ δ the gradient of the summed loss at lora_A's output.

    A sum where G_h is a mean: their product estimates the change of the summed loss, which layers that see different
    numbers of tokens share.
    """

    reads_gradients = False

    def __init__(self, layers: Sequence[AdaptedLayer]) -> None:
        self._tokens = TokenSums(layers, "A", _gradients, degree=2)

    def statistics(self) -> list[Tensor]:
        """Σ_t u uᵀ per layer."""
        return self._tokens.sums

    def unscale(self, scale: float) -> None:
        """Divides by the square of `scale`."""
        self._tokens.unscale(scale)

    def collect(self) -> list[Tensor]:
        """G_u of this step."""
        return self._tokens.take()[0]

    def resize(self) -> None:
        """Zero sums at the present ranks."""
        self._tokens.resize()

    def close(self) -> None:
        """Removes the hooks."""
        self._tokens.close()


def _gradients(x: Tensor, dtype: torch.dtype) -> Callable[[Tensor], tuple[Tensor, None]]:
    return lambda u: (u, None)


@register("statistic", "sensitivity")
class SensitivityStatistic:
    """Σ |∂L/∂A ⊙ A|_j + Σ |∂L/∂B ⊙ B|_j (r,) of the mean gradient: the first-order term of LLM-Pruner, per component.

    https://arxiv.org/abs/2305.11627, there from one batch of calibration; here averaged over steps, since one step
    alone is noise.
    """

    reads_gradients = True

    def __init__(self, layers: Sequence[AdaptedLayer]) -> None:
        self._layers = layers

    def statistics(self) -> list[Tensor]:
        """Empty: gradients are reduced already."""
        return []

    def unscale(self, scale: float) -> None:
        """Nothing to do: gradients come unscaled."""

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
