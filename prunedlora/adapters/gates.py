"""Gates: one trained factor per component, `y = W0 x + s B (c * A x)`, as L1RA needs them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.hooks import RemovableHandle

from prunedlora.adapters.layers import AdaptedLayer


def add_gates(layers: Sequence[AdaptedLayer]) -> list[RemovableHandle]:
    """Gives every layer a gate c (r,) of ones, a Parameter of its `lora_A`, and returns the hooks that apply them.

    The gates go with the adapter when it is detached, the hooks when they are removed.
    """
    for layer in layers:
        layer.lora_A.register_parameter("gate", Parameter(torch.ones_like(layer.A[:, 0])))
    return [layer.lora_A.register_forward_hook(_apply) for layer in layers]


def _apply(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
    gate: Tensor = module.gate  # type: ignore[assignment]
    return output * gate.to(output.dtype)
