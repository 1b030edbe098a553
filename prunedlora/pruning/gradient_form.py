"""What the form of pruning with the gradient (`gradient_cap`) remembers: the last gradients, and how they compare with
the averaged curvature."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prunedlora.pruning.live import LiveLayer
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.registry import lookup


class GradientForm:
    """The last observed gradients, of the loss that the averaged curvature is of; empty under other settings."""

    def __init__(self, settings: PruningSettings) -> None:
        self._settings = settings
        self._gradients: list[Tensor] | None = None
        self.scale = 0.0
        """Average over steps, started at zero, as the statistics are."""

    @property
    def needs_scale(self) -> bool:
        """Whether `observe` has to be told how the gradient's loss compares with the curvature's."""
        settings = self._settings
        if settings.gradient_cap is None or settings.curvature is None:
            return False
        return not lookup("curvature", settings.curvature).reads_gradients

    def check(self, scale: float | None) -> None:
        """Raises ValueError where a scale is needed and not given."""
        if self.needs_scale and scale is None:
            raise ValueError(f"gradient_cap with curvature {self._settings.curvature!r} needs a gradient_scale")

    def observe(self, layers: Sequence[LiveLayer], scale: float | None) -> None:
        """Keeps the layers' gradients, zeros where there is none, and averages `scale` in (Pruner.observe)."""
        settings = self._settings
        if settings.gradient_cap is not None:
            (side,) = settings.sides
            self._gradients = [
                layer.factor(side) * 0 if (gradient := layer.gradient(side)) is None else gradient.clone()
                for layer in layers
            ]
        if self.needs_scale and scale is not None:
            assert settings.ema_decay is not None
            self.scale += (1 - settings.ema_decay) * (scale - self.scale)

    def gradients(self, num_observed: int) -> list[Tensor] | None:
        """The last observed gradient of W (n, r) per layer, of the loss that the averaged curvature is of; None where
        none was kept. `num_observed`: steps that are averaged."""
        if self._gradients is None or not self.needs_scale:
            return self._gradients
        assert self._settings.ema_decay is not None
        scale = self.scale / (1 - self._settings.ema_decay**num_observed)
        return [gradient.double() * scale for gradient in self._gradients]

    def state_dict(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The last gradients (`gradient.<layer>`); none where none were kept."""
        if self._gradients is None:
            return {}
        return {f"gradient.{name}": gradient for name, gradient in zip(names, self._gradients, strict=True)}

    def load_state_dict(
        self, state: Mapping[str, Tensor], names: Sequence[str], devices: Sequence[torch.device]
    ) -> None:
        """Goes on with the gradients in `state`, which has one for each layer."""
        self._gradients = [
            state[f"gradient.{name}"].to(where, copy=True) for name, where in zip(names, devices, strict=True)
        ]

    def forget(self) -> None:
        """Lets the gradients go."""
        self._gradients = None
