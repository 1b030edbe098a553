"""The Pruner: the one object that remembers, between steps, what pruning needs, and says when the functions run.

Maths is in recovery.py and criteria.py, choices in allocation.py, timing in schedules.py, statistics in curvature.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.adapters.shrink import shrink
from prunedlora.pruning.allocation import Allocation
from prunedlora.pruning.curvature import Curvature
from prunedlora.pruning.recovery import damp, recover, transfer
from prunedlora.pruning.schedules import num_removed, removed_share
from prunedlora.registry import lookup


@dataclass(frozen=True)
class PruningSettings:
    """How an adapter is pruned. Names are those of the registry."""

    criterion: str
    curvature: str
    ema_decay: float
    """Decay per step of the averaged curvature, in [0, 1)."""
    damping: float
    """Added to the curvature's diagonal, as a share of its mean."""
    recovery_strength: float
    """Share of the closed-form compensation that the kept components get, in [0, 1]."""
    recovery_side: Literal["A", "B"]
    """The factor that is scored and compensated."""
    target_sparsity: float | None
    """Share of the components to remove; exactly one of this and `target_rank` is given."""
    target_rank: int | None
    """Mean rank at the end."""
    schedule: str
    begin: float
    """Progress at which removal begins."""
    end: float | None
    """Progress at which the target is reached; None for a schedule that does all at `begin`."""
    every_steps: int
    """Optimizer steps from one event to the next."""
    allocation: str
    min_rank: int
    """Fewest components that a layer keeps."""


@dataclass(frozen=True)
class Event:
    """One removal."""

    step: int
    removed: dict[str, list[int]]
    """Layer name → indices that went, as they were numbered just before; layers that lost nothing are left out."""
    ranks: dict[str, int]
    """Layer name → rank after the event, all layers."""


class Pruner:
    """Prunes the layers of one adapter while it trains: observe → step → state_dict.

    Owns the averaged curvature; changes the layers' Parameters and the optimizer's state at events only. With nothing
    to remove it never touches anything, and once the target is reached it stops collecting.
    """

    def __init__(self, settings: PruningSettings, layers: Sequence[AdaptedLayer]) -> None:
        """`layers` in their initial state, all of one rank.

        Raises ValueError for a target or a schedule that cannot be, UnknownNameError for an unknown name.
        """
        ranks = {layer.rank for layer in layers}
        if len(ranks) != 1:
            raise ValueError(f"layers must all start at one rank, got ranks {sorted(ranks)}")
        if settings.every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {settings.every_steps}")
        self.settings = settings
        self._layers = list(layers)
        self._initial_rank = ranks.pop()
        self._allocation: Allocation = lookup("allocation", settings.allocation)
        self._num_to_remove = self._allocation.num_to_remove(
            len(layers), self._initial_rank, settings.target_sparsity, settings.target_rank, settings.min_rank
        )
        self._criterion = lookup("criterion", settings.criterion)
        removed_share(settings.schedule, 0.0, settings.begin, settings.end)  # refuses settings that do not fit
        curvature = lookup("curvature", settings.curvature)
        self._curvature: Curvature | None = None
        self._averages: list[Tensor] = []
        self._num_observed = 0
        if not self._done():
            self._curvature = curvature(self._layers, settings.recovery_side)
            self._averages = [torch.zeros_like(H) for H in self._curvature.collect()]

    def statistics(self) -> list[Tensor]:
        """This step's raw statistics, to be summed over data-parallel workers in place before `observe`."""
        return [] if self._curvature is None else self._curvature.statistics()

    def observe(self) -> None:
        """Averages this step's curvature in, from complete, unclipped gradients; before the optimizer step."""
        if self._curvature is None:
            return
        for average, H in zip(self._averages, self._curvature.collect(), strict=True):
            average.lerp_(H, 1 - self.settings.ema_decay)
        self._num_observed += 1

    def step(self, step: int, progress: float, optimizer: Optimizer | None) -> Event | None:
        """Removes what is due after optimizer step number `step`, when the share `progress` of training is done.

        Events fall on multiples of `every_steps`; the last one on the first step at or after the schedule's end, so
        that the target is met there whatever `every_steps` is. There is none before the first observation or while
        every B is zero: the gradient of A is then zero too.
        """
        if self._curvature is None or self._num_observed == 0:
            return None
        end = self.settings.begin if self.settings.end is None else self.settings.end
        if step % self.settings.every_steps and progress < end:
            return None
        share = removed_share(self.settings.schedule, progress, self.settings.begin, self.settings.end)
        num_due = num_removed(share, self._num_to_remove) - self._num_done()
        if num_due <= 0 or not self._started():
            return None
        removed = self._remove(num_due, optimizer)
        event = Event(step, removed, {layer.name: layer.rank for layer in self._layers})
        if self._done():
            self.close()
        return event

    def state_dict(self) -> dict[str, Tensor]:
        """Averaged curvature (`average.<layer name>`) and the number of steps in it; take it between steps."""
        averages = {f"average.{layer.name}": H for layer, H in zip(self._layers, self._averages, strict=False)}
        return {"num_observed": torch.tensor(self._num_observed), **averages}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`; the layers must have their ranks of that moment already.

        Raises ValueError when the state's names or shapes do not belong to these layers.
        """
        if self._done():
            self.close()
        names = [f"average.{layer.name}" for layer in self._layers] if self._curvature is not None else []
        if state.keys() != {"num_observed", *names}:
            wrong = sorted(state.keys() ^ {"num_observed", *names})
            raise ValueError(f"pruner state does not fit the adapter; missing or unexpected: {', '.join(wrong)}")
        for name, layer in zip(names, self._layers, strict=False):
            if state[name].shape != (layer.rank, layer.rank):
                raise ValueError(
                    f"pruner state {name!r} has shape {tuple(state[name].shape)}, but the layer has rank {layer.rank}"
                )
        self._num_observed = int(state["num_observed"])
        if self._curvature is not None:
            self._curvature.resize()
            fresh = self._curvature.collect()
            self._averages = [
                state[name].to(H.device, H.dtype, copy=True) for name, H in zip(names, fresh, strict=True)
            ]

    def close(self) -> None:
        """Removes hooks and averages; the pruner does nothing from then on."""
        if self._curvature is not None:
            self._curvature.close()
        self._curvature = None
        self._averages = []

    def _num_done(self) -> int:
        return self._allocation.num_removed_so_far([layer.rank for layer in self._layers], self._initial_rank)

    def _started(self) -> bool:
        """Whether any B has left zero."""
        device = self._layers[0].B.device
        return bool(torch.stack([layer.B.detach().any().to(device) for layer in self._layers]).any())

    def _done(self) -> bool:
        return self._num_done() >= self._num_to_remove

    @torch.no_grad()
    def _remove(self, num: int, optimizer: Optimizer | None) -> dict[str, list[int]]:
        """One event: all layers in one batch of r × r matrices (padded to the largest rank), one transfer back."""
        assert self._curvature is not None
        settings, layers = self.settings, self._layers
        device = layers[0].B.device
        ranks = torch.tensor([layer.rank for layer in layers], device=device)
        size = int(max(layer.rank for layer in layers))
        alive = torch.arange(size, device=device) < ranks[:, None]
        correction = 1 - settings.ema_decay**self._num_observed
        H, live = damp(_stack([average / correction for average in self._averages], size), alive, settings.damping)
        # In float64 before the product: a Gram matrix squares the condition number.
        gram = _stack([W.mT @ W for W in (self._weight(layer).double() for layer in layers)], size)
        sequence = self._criterion(gram * live[:, None, None], H, alive, min(num, size - settings.min_rank))
        counts = self._allocation.counts(sequence.cost, ranks, num, settings.min_rank)
        chosen = torch.arange(sequence.order.shape[1], device=device) < counts[:, None]
        # Added up, since a layer of smaller rank repeats indices once it has run out.
        pruned = torch.zeros_like(alive, dtype=torch.int64).scatter_add_(1, sequence.order, chosen.long()) > 0
        transferred = transfer(H, pruned | ~alive)
        kept_on_host = (~pruned & alive).cpu()
        removed = {}
        for index, layer in enumerate(layers):
            keep = kept_on_host[index, : layer.rank]
            if bool(keep.all()):
                continue
            removed[layer.name] = torch.nonzero(~keep).flatten().tolist()
            mask, handover = pruned[index, : layer.rank], transferred[index, : layer.rank, : layer.rank]
            weight = self._weight(layer)
            weight.copy_(
                recover(weight.double(), handover.to(weight.device), mask.to(weight.device), settings.recovery_strength)
            )
            kept = torch.nonzero(keep).flatten()
            shrink(layer, kept, optimizer)
            there = kept.to(self._averages[index].device)
            self._averages[index] = self._averages[index][there][:, there]
        self._curvature.resize()
        return removed

    def _weight(self, layer: AdaptedLayer) -> Tensor:
        """W (n, r): B, or A transposed; a view of the Parameter's data."""
        return layer.B.detach() if self.settings.recovery_side == "B" else layer.A.detach().mT


def _stack(matrices: Sequence[Tensor], size: int) -> Tensor:
    """(L, size, size) float64 on the first matrix's device, padded with zeros."""
    padded = torch.zeros(len(matrices), size, size, dtype=torch.float64, device=matrices[0].device)
    for target, matrix in zip(padded, matrices, strict=True):
        rank = matrix.shape[0]
        target[:rank, :rank] = matrix
    return padded
