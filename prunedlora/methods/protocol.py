"""What every method offers the training loop."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.pruning.pruner import Event


class Method(Protocol):
    """A way for an adapter to start and to change; registered with `@register("method", name)`.

    One object serves one trial on one model. The loop calls, in this order: `attach` once; then per optimizer step
    backward passes, `statistics` (sums them over the workers in place), `observe`, the optimizer, `step`; `close` at
    the end. All workers hold equal objects and decide alike, because all they see is reduced.
    """

    prunes: ClassVar[bool]
    """Whether the rank changes while training; the settings under `pruning` belong to such methods only."""

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with a fresh adapter (a PeftModel); `model` itself is changed until `adapters.attach.detach`."""
        ...

    def statistics(self) -> list[Tensor]:
        """This step's raw statistics, to be summed over data-parallel workers in place before `observe`."""
        ...

    def observe(self, progress: float) -> None:
        """Takes in complete gradients (averaged over targets and workers, not clipped); before the optimizer step."""
        ...

    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """After optimizer step number `step` (from 1), with the share of training done: the change made, if any."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What `observe` and `step` remember between steps; factors and optimizer are not in it."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`; the layers must have their ranks of that moment (adapters.shrink.set_factors)."""
        ...

    def close(self) -> None:
        """Removes every hook from the model."""
        ...
