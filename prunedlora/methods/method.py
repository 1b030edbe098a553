"""What every method offers the training loop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from prunedlora.adapters.attach import AdapterSettings
from prunedlora.pruning.pruner import Event


@dataclass(frozen=True)
class OwnGroup:
    """Parameters that a method trains beside factors and head, at a constant rate and without weight decay."""

    parameters: list[Parameter]
    learning_rate: float


class Method(Protocol):
    """A way for an adapter to start and to change; registered with `@register("method", name)`.

    One object serves one trial on one model. The loop calls, in this order: `attach` once; then per optimizer step
    backward passes, `statistics` (sums them over the workers in place), `observe`, the optimizer, `step`; after the
    last step `truncations`; `close` and `detach` at the end. All workers hold equal objects and decide alike, because
    all they see is reduced.
    """

    section: ClassVar[str | None]
    """The section of the configuration with the settings of this method; None: it has none."""
    settings_type: ClassVar[type | None]
    """The dataclass of those settings."""
    changes_rank: ClassVar[bool]
    """Whether `step` changes ranks."""

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: Any) -> None:
        """`num_steps`: length of the training in optimizer steps. Raises ValueError for settings that it forbids."""
        ...

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with a fresh adapter; `model` itself is changed until `detach`."""
        ...

    @property
    def rate_factor(self) -> float:
        """What the learning rate of the adapter (not of the head) is multiplied by, at the present ranks."""
        ...

    def own_groups(self) -> list[OwnGroup]:
        """What is trained beside factors and head, once attached."""
        ...

    def statistics(self) -> list[Tensor]:
        """This step's raw statistics, to be summed over data-parallel workers in place before `observe`."""
        ...

    def observe(self, progress: float) -> None:
        """Takes in complete gradients (averaged over targets and workers, not clipped); before the optimizer step.

        May add to them, in place, the gradient of a penalty of its own.
        """
        ...

    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """After optimizer step number `step` (from 1), with the share of training done: the change made, if any."""
        ...

    def truncations(self) -> Iterator[int]:
        """After the last step: makes the adapter smaller without training and yields the rank, as often as there is
        another one to be evaluated."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What `observe` and `step` remember between steps; parameters and optimizer are not in it."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`; the layers must have their ranks of that moment (adapters.shrink.set_factors)."""
        ...

    def close(self) -> None:
        """Removes every hook from the model."""
        ...

    def detach(self, model: nn.Module) -> None:
        """Gives the base model back as it was before `attach`; `model` is what `attach` returned."""
        ...
