"""AdaLoRA (https://arxiv.org/abs/2303.10512) as PEFT has it: singular triplets, masked by sensitivity to a budget.

    y = W0 x + s / (r + 1e-5) · B diag(E) A x

PEFT allocates (`update_and_allocate`, after the optimizer's step and before the gradients go). A loop with a loss of
its own, as ours, adds the penalty that keeps A and B orthogonal itself: PEFT adds it to `outputs.loss` only. Export
folds what scales into B and drops the triplets with E = 0.
https://huggingface.co/docs/peft/package_reference/adalora
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.plain import adalora_modules, plain_layers
from prunedlora.methods.method import Method
from prunedlora.pruning.pruner import Event
from prunedlora.registry import register
from prunedlora.settings_error import SettingsError


@dataclass(frozen=True)
class AdaLoraSettings:
    target_rank: int
    """Mean rank at the end."""
    begin: float
    """Progress at which the budget begins to fall."""
    end: float
    """Progress at which it is reached, and the masks stay."""
    every_steps: int
    """Optimizer steps between two allocations."""
    sensitivity_decay: float
    uncertainty_decay: float
    orthogonality: float
    """Weight of the penalty."""


def orthogonality_penalty(factors: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean over all A (r, d_in) and B (d_out, r) of ‖A Aᵀ − I‖_F and ‖Bᵀ B − I‖_F, as PEFT's AdaLoraModel.forward."""
    grams = [gram for A, B in factors for gram in (A @ A.T, B.T @ B)]
    eyes = [torch.eye(len(gram), dtype=gram.dtype, device=gram.device) for gram in grams]
    return torch.stack([torch.linalg.matrix_norm(gram - eye) for gram, eye in zip(grams, eyes, strict=True)]).mean()


@register("method", "adalora")
class AdaLora(Method):
    """An adapter of singular triplets whose mean rank falls from the initial to the target rank."""

    section = "adalora"
    settings_type = AdaLoraSettings
    changes_rank = True
    takes_unequal_ranks = False
    settings: AdaLoraSettings

    def __init__(self, adapter: AdapterSettings, seed: int, num_steps: int, settings: AdaLoraSettings) -> None:
        begin, end = round(settings.begin * num_steps), round(settings.end * num_steps)
        if end - begin < settings.every_steps or end < 1:
            raise SettingsError(
                f"adalora: from step {begin} to {end} of {num_steps} there is no room for an allocation every "
                f"{settings.every_steps} steps; train longer, or move begin {settings.begin:g} and "
                f"end {settings.end:g} apart"
            )
        super().__init__(adapter, seed, num_steps, settings)
        self._schedule = {"tinit": begin, "tfinal": num_steps - end, "total_step": num_steps}
        self._model: Any = None
        self._name = ""
        self._modules: dict[str, Any] = {}
        """Layer name → PEFT's module."""

    def attach(self, model: nn.Module, adapter_name: str) -> nn.Module:
        """The model with the adapter. Raises TargetError for modules that do not fit the model."""
        settings = self.settings
        fields = {
            "target_r": settings.target_rank,
            "deltaT": settings.every_steps,
            "beta1": settings.sensitivity_decay,
            "beta2": settings.uncertainty_decay,
            "orth_reg_weight": settings.orthogonality,
            **self._schedule,
        }
        self._model = attach(model, self.adapter, adapter_name, self.seed, fields)
        self._name = adapter_name
        self._modules = adalora_modules(self._model, adapter_name)
        adapted: nn.Module = self._model
        return adapted

    def penalise(self) -> None:
        """Adds the penalty's gradient to those of A and B."""
        if self.settings.orthogonality == 0:
            return
        factors = [(module.lora_A[self._name], module.lora_B[self._name]) for module in self._modules.values()]
        parameters = [parameter for pair in factors for parameter in pair]
        with torch.enable_grad():
            penalty = self.settings.orthogonality * orthogonality_penalty(factors)
        for parameter, gradient in zip(parameters, torch.autograd.grad(penalty, parameters), strict=True):
            assert parameter.grad is not None
            parameter.grad += gradient

    def step(self, step: int, progress: float, optimizer: Optimizer) -> Event | None:
        """PEFT's allocation; an event when it has masked to a new budget. Until the last, masked ones may come back."""
        config = self._model.peft_config[self._name]
        before, masks = self._alive(), config.rank_pattern
        self._model.base_model.update_and_allocate(step)
        if config.rank_pattern is masks:  # no new ones; the old ones are applied again once the budget is final
            return None
        after = self._alive()
        removed = {name: torch.nonzero(before[name] & ~alive).flatten().tolist() for name, alive in after.items()}
        ranks = {layer.name: layer.rank for layer in plain_layers(self._model, self._name)}
        return Event(step, {name: lost for name, lost in removed.items() if lost}, ranks)

    def state_dict(self) -> dict[str, Tensor]:
        """PEFT's averaged sensitivities and uncertainties, and the masks in force, by parameter name."""
        allocator = self._model.base_model.rankallocator
        state = {f"sensitivity.{name}": tensor for name, tensor in allocator.exp_avg_ipt.items()}
        state |= {f"uncertainty.{name}": tensor for name, tensor in allocator.exp_avg_unc.items()}
        masks = self._model.peft_config[self._name].rank_pattern or {}
        return state | {f"mask.{name}": torch.tensor(mask) for name, mask in masks.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`. Raises ValueError for a state of another method."""
        parts: dict[str, dict[str, Tensor]] = {"sensitivity": {}, "uncertainty": {}, "mask": {}}
        if strange := sorted(name for name in state if name.partition(".")[0] not in parts):
            raise ValueError(f"method 'adalora' keeps {', '.join(parts)}, but got {', '.join(strange)}")
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        allocator = self._model.base_model.rankallocator
        allocator.exp_avg_ipt, allocator.exp_avg_unc = parts["sensitivity"], parts["uncertainty"]
        allocator.ipt = {name: torch.zeros_like(tensor) for name, tensor in parts["sensitivity"].items()}
        self._model.peft_config[self._name].rank_pattern = {
            name: mask.tolist() for name, mask in parts["mask"].items()
        } or None

    def _alive(self) -> dict[str, Tensor]:
        """Layer name → which triplets have E ≠ 0."""
        return {name: (module.lora_E[self._name] != 0).flatten() for name, module in self._modules.items()}
