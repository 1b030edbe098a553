"""What every method offers the training loop, and what it does unless it says otherwise: nothing but plain LoRA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.pruning.ladder import Ladder
from prunedlora.pruning.pruner import Event
from prunedlora.pruning.target import Start


@dataclass(frozen=True)
class OwnGroup:
    """Parameters that a method trains beside factors and head, at a constant rate and without weight decay."""

    parameters: list[Parameter]
    learning_rate: float


class Method:
    """A way for an adapter to start and to change; a subclass carries `@register("method", name)`.

    One object serves one trial on one model. The loop calls, in this order: `attach` once; then per optimizer step
    backward passes (and `discard`, where they have to begin anew), `statistics` (sums them over the workers in place),
    `penalise`, `unscale` (where losses are scaled; `discard` may still follow), `observe`, the optimizer, `step`; where
    a rung begins `begin_rung`; `close` and `detach` at the end. All workers hold equal objects and decide alike,
    because all they see is reduced.

    A subclass overrides what it does otherwise. What it keeps is a LoRA adapter of fixed rank that remembers nothing.
    """

    section: ClassVar[str | None] = None
    """The section of the configuration with the settings of this method; None: it has none."""
    settings_type: ClassVar[type | None] = None
    """The dataclass of those settings."""
    changes_rank: ClassVar[bool] = False
    """Whether `step` changes ranks."""
    takes_unequal_ranks: ClassVar[bool] = True
    """Whether it goes on from LoRA layers of any ranks; else it starts them all at one, from nothing."""

    _layers: Sequence[AdaptedLayer] = ()
    """The LoRA layers, once attached."""
    _handles: Sequence[RemovableHandle] = ()
    """Hooks that an `attach` has put on the model; `close` removes them."""

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: Any) -> None:
        """`seed` initialises A. `num_steps`: length of the training in optimizer steps. `settings`: a `settings_type`.

        A subclass raises ValueError for settings that a training of this length forbids.
        """
        self.adapter = adapter
        self.seed = seed
        self.num_steps = num_steps
        self.settings = settings

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with a fresh adapter; `model` itself is changed until `detach`.

        Raises TargetError for modules that do not fit the model.
        """
        adapted: nn.Module = attach(model, self.adapter, adapter_name, self.seed)
        self._layers = adapted_layers(adapted, adapter_name)
        return adapted

    @property
    def layers(self) -> Sequence[AdaptedLayer]:
        """The LoRA layers, once attached; none where an adapter of another kind, or the model itself, is trained."""
        return self._layers

    @property
    def ladder(self) -> Ladder | None:
        """The falling sizes that the training passes; None where it aims at one."""
        return None

    @property
    def rate_factor(self) -> float:
        """What the learning rate of the adapter (not of the head) is multiplied by, at the present ranks."""
        return 1.0

    def check_sizes(self, start: Start) -> None:
        """Whether layers like these can come to the sizes of its settings; before or without `attach`.

        Raises SettingsError naming the setting of one that they cannot.
        """

    def own_groups(self) -> list[OwnGroup]:
        """What is trained beside factors and head, once attached."""
        return []

    def statistics(self) -> list[Tensor]:
        """This step's raw statistics, to be summed over data-parallel workers in place before `observe`."""
        return []

    def unscale(self, scale: float) -> None:
        """Makes of the summed statistics, in place, those of losses that were not multiplied by `scale`, a power of
        two; what is made of gradients need not be: these come unscaled."""

    def discard(self) -> None:
        """Forgets what hooks have collected since the last `step`: its backward passes begin anew."""

    def penalise(self) -> None:
        """Adds to complete gradients (averaged over targets and workers, not clipped), in place, the gradient of a
        penalty of its own."""

    def observe(self, num_targets: float) -> None:
        """Takes in the statistics and the finite, complete gradients of a step, its `num_targets` over all workers;
        before the gradients are clipped and the optimizer steps."""

    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """After optimizer step number `step` (from 1), with the share of training done: the change made, if any."""
        return None

    def begin_rung(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """On a ladder, when the candidate after optimizer step number `step` has been made and the next rung begins,
        or when a training is gone on with that stands there: the change made, if any. Done twice it changes nothing."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """What `observe` and `step` remember between steps; parameters and optimizer are not in it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`; the layers must have their ranks of that moment (adapters.shrink.set_factors).

        Raises ValueError for a state of another method.
        """
        if state:
            name = type(self).__name__.lower()
            raise ValueError(f"method {name!r} keeps no state, but got {', '.join(sorted(state))}")

    def close(self) -> None:
        """Removes every hook from the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()

    def detach(self, model: nn.Module) -> None:
        """Gives the base model back as it was before `attach`; `model` is what `attach` returned."""
        detach(model)
