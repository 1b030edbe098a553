"""The learning rate where another sets it: an optimizer's steps, made longer or shorter once they are done."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter


class StepLengths:
    """Multiplies what one optimizer step does to each parameter: w ← w₀ + f (w − w₀), w₀ as it was before.

    The same as a learning rate times f for every optimizer whose steps, decoupled weight decay among them, are
    proportional to it, as those of Adam and its like and of SGD are.
    """

    def __init__(self) -> None:
        self._before: list[tuple[Parameter, float, Tensor]] = []

    def keep(self, factors: Iterable[tuple[Parameter, float]]) -> None:
        """Before the step: each parameter with its f; copies those that a step of its own length would not do for."""
        self._before = [(parameter, f, parameter.detach().clone()) for parameter, f in factors if f != 1.0]

    def apply(self) -> None:
        """After the step, once."""
        for parameter, f, before in self._before:
            parameter.data.copy_(torch.lerp(before, parameter.data, f))
        self._before = []
