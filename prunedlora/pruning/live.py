"""The components of one layer that are still there: all of them where removal is physical, some where it is held.

In a foreign trainer shapes must not change while it trains (methods.md 1.5): components that are gone stay, at zero.
Everything here speaks of the live ones alone, so that whoever chooses need not know.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunedlora.adapters.layers import AdaptedLayer, Side
from prunedlora.adapters.moments import Moments, map_moments
from prunedlora.adapters.shrink import shrink


class LiveLayer:
    """One layer's live components, in their order. `hold`: what is removed is kept at zero until `shrink`."""

    def __init__(self, layer: AdaptedLayer, *, hold: bool) -> None:
        self.layer = layer
        self._held: Tensor | None = torch.arange(layer.rank) if hold else None
        """Indices of the live components; None: all."""
        self._there: tuple[Tensor, Tensor] | None = None
        """Those indices, and which components (r,) are gone, where the factors are: both are wanted at every step, and
        a copy of the host's makes the device wait. None until they are asked for."""

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def rank(self) -> int:
        """Number of live components."""
        return self.layer.rank if self._held is None else len(self._held)

    @property
    def width(self) -> int:
        """Parameters of one component, d_in + d_out."""
        return self.layer.width

    @property
    def index(self) -> Tensor | None:
        """Indices of the live components among all, on the CPU; None: all are."""
        return self._held

    def factor(self, side: Side) -> Tensor:
        """W (n, r): B, or A transposed."""
        return self._columns(self.layer.B.detach() if side == "B" else self.layer.A.detach().mT)

    def gradient(self, side: Side) -> Tensor | None:
        """The gradient of W (n, r); None when there is none."""
        gradient = (self.layer.B if side == "B" else self.layer.A).grad
        if gradient is None:
            return None
        return self._columns(gradient if side == "B" else gradient.mT)

    def write(self, side: Side, weight: Tensor) -> None:
        """Puts W (n, r) in the place of the live columns; the others stay."""
        whole = self.layer.B.detach() if side == "B" else self.layer.A.detach().mT
        if self._held is None:
            whole.copy_(weight)
        else:
            whole[:, self._index_at(whole)] = weight.to(whole.dtype)

    def select(self, statistic: Tensor) -> Tensor:
        """The live part of a statistic (r,) or (r, r) that was collected for all components."""
        if self._is_whole:
            return statistic
        index = self._index_at(statistic)
        return statistic[index] if statistic.ndim == 1 else statistic[index][:, index]

    def remove(self, keep: Tensor, optimizer: Optimizer | None) -> None:
        """Keeps the components `keep` (rising indices among the live ones) and drops, or holds at zero, the rest."""
        if self._held is None:
            shrink(self.layer, keep.cpu(), optimizer)
        else:
            self._held, self._there = self._held[keep.cpu()], None
            self.enforce()

    def change_basis(self, T: Tensor, T_inverse: Tensor, optimizer: Optimizer | None, moments: Moments) -> None:
        """A → T A, B → B T⁻¹ for the live components; gradients and the optimizer's moments follow (map_moments)."""
        T, T_inverse = T.to(self.layer.B.device), T_inverse.to(self.layer.B.device)
        self.write("A", (T @ self.factor("A").to(T.dtype).mT).mT)
        self.write("B", self.factor("B").to(T.dtype) @ T_inverse)
        map_moments(self.layer, T, T_inverse, self._held, optimizer, moments)

    @torch.no_grad()
    def enforce(self) -> None:
        """Sets what is held to zero, after a step of an optimizer whose momentum or weight decay moves it."""
        if self._is_whole:
            return
        _, gone = self._at_factors()
        self.layer.A.data.masked_fill_(gone[:, None], 0.0)
        self.layer.B.data.masked_fill_(gone, 0.0)

    def shrink(self, optimizer: Optimizer | None) -> None:
        """Really drops what was held; from then on removal is physical."""
        if self._held is not None:
            shrink(self.layer, self._held, optimizer)
            self._held = self._there = None

    def restore(self, index: Tensor) -> None:
        """Goes on with these live components, from a state that was saved. Raises ValueError where nothing is held."""
        if self._held is None:
            raise ValueError(f"layer {self.layer.name!r} removes physically; the state is one of held components")
        self._held, self._there = index.cpu(), None

    @property
    def _is_whole(self) -> bool:
        return self._held is None or len(self._held) == self.layer.rank

    def _columns(self, whole: Tensor) -> Tensor:
        return whole if self._held is None else whole[:, self._index_at(whole)]

    def _index_at(self, tensor: Tensor) -> Tensor:
        return self._at_factors()[0].to(tensor.device)

    def _at_factors(self) -> tuple[Tensor, Tensor]:
        assert self._held is not None
        if self._there is None:
            gone = torch.ones(self.layer.rank, dtype=torch.bool)
            gone[self._held] = False
            device = self.layer.B.device
            self._there = self._held.to(device), gone.to(device)
        return self._there
