"""L1RA (https://arxiv.org/abs/2509.04884): gates under an L1 penalty say which components a layer can do without;
what one layer loses others gain, so that the number of components stays.

    y = W0 x + s B (c * A x),    c in [0, 1], 1 at the start,    s = alpha / initial rank for ever

Export folds c into B.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from prunedlora.adapters.attach import AdapterSettings
from prunedlora.adapters.gates import add_gates
from prunedlora.adapters.shrink import grow, shrink
from prunedlora.methods.method import Method, OwnGroup
from prunedlora.pruning.pruner import Event
from prunedlora.pruning.reallocation import reallocate, shrink_gates
from prunedlora.registry import register
from prunedlora.seeds import generator
from prunedlora.settings_error import SettingsError


@dataclass(frozen=True)
class L1raSettings:
    gate_learning_rate: float
    """Constant."""
    gate_penalty: float
    """How far the penalty alone takes a gate down over the whole training: η_c λ of the paper times all steps. At the
    paper's η_c λ = 1e-5 a step a gate needs 1e5 steps from 1 to 0, so that in shorter runs only the optimizer's noise
    prunes; given for the whole training, it means the same at every length."""
    threshold: float
    """Gates below it lose their component."""
    every: float
    """Share of the training between two reallocations."""


@register("method", "l1ra")
class L1ra(Method):
    """An adapter whose components move between layers. `seed` initialises A, also of components that come later.

    Nothing is remembered between steps: the gates are parameters of the model, and are judged by their values.
    """

    section = "l1ra"
    settings_type = L1raSettings
    changes_rank = True
    takes_unequal_ranks = False
    settings: L1raSettings

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: L1raSettings) -> None:
        every_steps = round(settings.every * num_steps)
        if every_steps < 1:
            raise SettingsError(
                f"l1ra.every {settings.every:g} of {num_steps} training steps is less than half a step; "
                "train longer or reallocate less often"
            )
        super().__init__(adapter, seed, num_steps, settings)
        self.penalty = settings.gate_penalty / num_steps
        self.every_steps = every_steps

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with the adapter and its gates. Raises TargetError for modules that do not fit the model."""
        adapted = super().attach(model, adapter_name)
        self._handles = add_gates(self._layers)
        return adapted

    def own_groups(self) -> list[OwnGroup]:
        """The gates."""
        return [OwnGroup(self._gates(), self.settings.gate_learning_rate)]

    @torch.no_grad()
    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """Draws the gates towards zero; moves components when it is time. None comes in the last step: it would go out
        untrained."""
        for gate in self._gates():
            gate.copy_(shrink_gates(gate, self.penalty))
        if step % self.every_steps or progress >= 1:
            return None
        moves = reallocate(self._gates(), self.settings.threshold)
        if not any(moves.removed):
            return None
        assert self.adapter.initial_rank is not None
        for index, layer in enumerate(self._layers):
            if lost := moves.removed[index]:
                keep = [j for j in range(layer.rank) if j not in set(lost)]
                shrink(layer, torch.tensor(keep, dtype=torch.int64), optimizer)
            if num := moves.num_added[index]:
                # The paper starts new rows at N(0, 1 / initial rank²); B is zero, so nothing changes at first.
                rows = torch.randn(num, layer.lora_A.in_features, generator=generator(self.seed, "l1ra", step, index))
                grow(layer, rows / self.adapter.initial_rank, optimizer)
        named = zip(self._layers, moves.removed, strict=True)
        ranks = {layer.name: layer.rank for layer in self._layers}
        return Event(step, {layer.name: lost for layer, lost in named if lost}, ranks)

    def _gates(self) -> list[Parameter]:
        return [gate for layer in self._layers if (gate := layer.gate) is not None]
