"""PrunedLoRA (https://arxiv.org/abs/2510.00192): a LoRA adapter that loses components while it trains."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.adapters.attach import AdapterSettings
from prunedlora.methods.method import Method
from prunedlora.pruning.goals import falling_goals
from prunedlora.pruning.ladder import Ladder, rungs_of
from prunedlora.pruning.pruner import Event, Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.pruning.target import Start
from prunedlora.registry import lookup, register
from prunedlora.settings_error import SettingsError


@register("method", "prunedlora")
class PrunedLora(Method):
    """An adapter that starts at a large rank and is pruned to its target by a Pruner."""

    section = "pruning"
    settings_type = PruningSettings
    changes_rank = True
    settings: PruningSettings

    _pruner: Pruner | None = None

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: Any) -> None:
        """Raises SettingsError for a training too short for its ladder's rungs."""
        super().__init__(adapter, seed, num_steps, settings)
        if self.settings.ladder is not None:
            try:
                rungs_of(self.settings.ladder, num_steps)
            except ValueError as error:
                raise SettingsError(str(error)) from error

    @property
    def pruner(self) -> Pruner:
        """The pruner of the attached adapter. Raises RuntimeError before `attach`."""
        if self._pruner is None:
            raise RuntimeError("attach the method to a model first")
        return self._pruner

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with the adapter; hooks for the curvature come with the first step that is observed.

        Raises TargetError for modules that do not fit the model, SettingsError for a target or a rung that these layers
        cannot come to.
        """
        adapted = super().attach(model, adapter_name)
        try:
            self.check_sizes(Start.of_layers(self._layers))
            self._pruner = Pruner(self.settings, self._layers, seed=self.seed, num_steps=self.num_steps)
        except ValueError:
            self.detach(adapted)  # the base serves other trials
            raise
        return adapted

    def check_sizes(self, start: Start) -> None:
        """Whether layers like these can come to its target, or to its rungs one after the other."""
        settings = self.settings
        if settings.ladder is not None:
            setting = "schedule.rungs"
        else:
            setting = "target_rank" if settings.target_rank is not None else "target_sparsity"
        try:
            falling_goals(lookup("allocation", settings.allocation).goal, start, settings.targets)
        except ValueError as error:
            raise SettingsError(f"pruning.{setting}: {error}") from error

    @property
    def ladder(self) -> Ladder | None:
        """The ladder of its settings."""
        return self.settings.ladder

    @property
    def rate_factor(self) -> float:
        """Grows as components go, by the setting `rate_growth`."""
        return self.pruner.rate_factor

    def statistics(self) -> list[Tensor]:
        """Raw curvature sums of this step, to be summed over workers in place."""
        return self.pruner.statistics()

    def unscale(self, scale: float) -> None:
        """Curvature sums of losses that were not multiplied by `scale`."""
        self.pruner.unscale(scale)

    def discard(self) -> None:
        """Forgets the curvature sums of this step."""
        self.pruner.discard()

    def observe(self, num_targets: float) -> None:
        """Averages this step's curvature in; the losses of its targets are summed."""
        self.pruner.observe(num_targets)

    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """Prunes if an event is due."""
        return self.pruner.step(step, progress, optimizer)

    def begin_rung(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """Removes what the rung that begins here removes at once."""
        return self.pruner.begin_rung(step, optimizer)

    def state_dict(self) -> dict[str, Tensor]:
        """The pruner's state."""
        return self.pruner.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from the pruner's state; the layers must have their ranks of that moment."""
        self.pruner.load_state_dict(state)

    def close(self) -> None:
        """Removes the curvature's hooks."""
        self.pruner.close()
