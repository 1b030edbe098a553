"""What pruning observes of the layers' components, step by step, and averaged over the steps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.pruning.basis import map_second_moment
from prunedlora.pruning.criteria import Criterion
from prunedlora.pruning.live import LiveLayer
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.registry import lookup

CURVATURE = "curvature."
"""Prefix of a curvature among the statistics; its side follows."""
H_MOMENT, U_MOMENT = "activation", "output_gradient"
"""The statistics that basis "whitened" is made of."""


Watch = Callable[[Sequence[AdaptedLayer]], Any]
"""Makes the curvature or statistic that watches these layers from then on."""


def watched(settings: PruningSettings, criterion: Criterion | None) -> dict[str, Watch]:
    """What has to be collected under these settings: name → what makes its curvature or statistic.

    Raises UnknownNameError.
    """
    names = {H_MOMENT, U_MOMENT} if settings.basis == "whitened" else set()
    found: dict[str, Watch] = {}
    if criterion is not None:
        names |= {*criterion.statistics, *([criterion.own_curvature] if criterion.own_curvature else [])}
        if settings.curvature is not None:
            kind = lookup("curvature", settings.curvature)
            found = {f"{CURVATURE}{side}": partial(kind, side=side) for side in settings.sides}
    return found | {name: lookup("statistic", name) for name in sorted(names)}


def reads_gradients(settings: PruningSettings) -> bool:
    """Whether any of it is made of the factors' gradients, which must then be complete and unclipped; hooks see the
    backward passes whatever becomes of the gradients."""
    kinds = [] if settings.curvature is None else [lookup("curvature", settings.curvature)]
    if settings.criterion is not None:
        kinds += [lookup("statistic", name) for name in lookup("criterion", settings.criterion).statistics]
    return settings.gradient_cap is not None or any(kind.reads_gradients for kind in kinds)


class Averages:
    """Exponential averages over steps of what the collectors see, of the live components of each layer.

    Owns the collectors, whose hooks `begin` sets and `close` removes; before and after nothing is averaged. It may
    begin again after that.
    """

    def __init__(self, watched: Mapping[str, Watch], layers: Sequence[LiveLayer], decay: float | None) -> None:
        """`decay` per step in [0, 1); None where nothing is collected."""
        self._watched = watched
        self._layers = layers
        self._decay = decay
        self.is_watching = False
        self.num_observed = 0
        """Steps averaged since it began."""
        self._collectors: dict[str, Any] = {}
        self._values: dict[str, list[Tensor]] = {}

    def begin(self) -> None:
        """Watches from here on, all averages zero."""
        layers = [live.layer for live in self._layers]
        self._collectors = {name: watch(layers) for name, watch in self._watched.items()}
        self._values = {
            name: [torch.zeros_like(value) for value in self._live(collector.collect())]
            for name, collector in self._collectors.items()
        }
        self.num_observed = 0
        self.is_watching = True

    def statistics(self) -> list[Tensor]:
        """This step's raw statistics, to be summed over data-parallel workers in place before `observe`."""
        return [tensor for collector in self._collectors.values() for tensor in collector.statistics()]

    def unscale(self, scale: float) -> None:
        """Makes of the raw statistics those of losses that were not multiplied by `scale`."""
        for collector in self._collectors.values():
            collector.unscale(scale)

    def observe(self) -> None:
        """Averages this step's statistics in."""
        for name, collector in self._collectors.items():
            assert self._decay is not None
            torch._foreach_lerp_(self._values[name], self._live(collector.collect()), 1 - self._decay)
        self.num_observed += 1

    def corrected(self) -> dict[str, list[Tensor]]:
        """Statistic → its average per layer, (r, r) or (r,), without the bias of the start at zero."""
        if self._decay is None:
            return {}
        correction = 1 - self._decay**self.num_observed
        return {name: [average / correction for average in values] for name, values in self._values.items()}

    def change_basis(self, index: int, T: Tensor, T_inverse: Tensor) -> None:
        """Turns the second moments of h (by T) and of u (by T⁻ᵀ) of one layer to its new basis (basis "whitened")."""
        for name, map_ in ((H_MOMENT, T), (U_MOMENT, T_inverse.mT)):
            moment = self._values[name][index]
            turned = map_second_moment(moment.double(), map_.to(moment.device))
            self._values[name][index] = turned.to(moment.dtype)

    def keep(self, index: int, components: Tensor) -> None:
        """Keeps what belongs to the components of one layer that stay (rising indices); `resize` when all are done."""
        for values in self._values.values():
            there = components.to(values[index].device)
            values[index] = values[index][there] if values[index].ndim == 1 else values[index][there][:, there]

    def resize(self) -> None:
        """Collects afresh at the layers' present ranks."""
        for collector in self._collectors.values():
            collector.resize()

    def close(self) -> None:
        """Removes hooks and averages."""
        for collector in self._collectors.values():
            collector.close()
        self._collectors, self._values = {}, {}
        self.is_watching = False

    def state_dict(self) -> dict[str, Tensor]:
        """Averages (`average.<statistic>.<layer>`) and the number of steps in them (`num_observed`)."""
        averages = {
            f"average.{name}.{layer.name}": value
            for name, values in self._values.items()
            for layer, value in zip(self._layers, values, strict=True)
        }
        return {"num_observed": torch.tensor(self.num_observed), **averages}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`, which has all the names that `state_dict` has now; layers have their ranks already.

        Raises ValueError for a shape that is not a layer's.
        """
        self.num_observed = int(state["num_observed"])
        for name, collector in self._collectors.items():
            collector.resize()
            for index, (layer, value) in enumerate(zip(self._layers, self._live(collector.collect()), strict=True)):
                saved = state[f"average.{name}.{layer.name}"]
                if saved.shape != value.shape:
                    raise ValueError(
                        f"pruner state 'average.{name}.{layer.name}' has shape {tuple(saved.shape)}, "
                        f"but the layer has rank {value.shape[0]}"
                    )
                self._values[name][index] = saved.to(value.device, value.dtype, copy=True)

    def _live(self, collected: Sequence[Tensor]) -> list[Tensor]:
        """The live part of what was collected for all components."""
        return [layer.select(value) for layer, value in zip(self._layers, collected, strict=True)]
