"""PrunedLoRA in a `transformers.Trainer`, and so in TRL's `SFTTrainer`: a callback.

    trainer = SFTTrainer(model, peft_config=LoraConfig(r=64, target_modules="all-linear"), ...)
    trainer.add_callback(PrunedLoraCallback(PruningConfig(target_rank=8, schedule={...})))
    trainer.train()

The numbers are those of our own loop (`prunedlora.pruning`). While the Trainer trains, shapes must not change, so what
is removed is held at zero; when it ends the adapter really shrinks, and a plain PEFT adapter is saved.
"""

from pathlib import Path
from typing import Any

import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prunedlora.adapters.export import declare_ranks, export
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.config.methods import PruningConfig
from prunedlora.config.section import section_fields
from prunedlora.pruning.pruner import Event, Pruner
from prunedlora.pruning.pruning_settings import PruningSettings

ADAPTER_FOLDER = "pruned_adapter"
"""Inside the Trainer's output_dir."""
STATE_FILE = "pruner.safetensors"
"""Inside each of the Trainer's checkpoints."""


class CallbackError(RuntimeError):
    """A model or Trainer that PrunedLoRA cannot work with; the message says why and what would do."""


class PrunedLoraCallback(TrainerCallback):
    """Prunes the LoRA adapter of the Trainer's model while it trains.

    Steps count as the Trainer's optimizer steps, progress by its `max_steps`. Gradients reach a callback after the
    Trainer has clipped them, so `curvature: batch` needs `max_grad_norm=0`; `token` collects before. Statistics weigh
    steps by the Trainer's own loss, a mean over the batch, where our loop sums over targets: with batches of equally
    many targets both remove the same components.

    The learning rate that the Trainer sets, and logs, is the one before components went: `rate_growth` lengthens the
    optimizer's steps of A and B after them, which for Adam and its like is the same as a larger rate.

    After training the model's adapter is small, `<output_dir>/pruned_adapter` holds it as a plain PEFT adapter, and
    `trainer.save_model()` and `push_to_hub()` save it with its true ranks.
    """

    def __init__(self, pruning: PruningConfig, *, adapter_name: str = "default") -> None:
        self.settings = PruningSettings(**section_fields(pruning))
        self.adapter_name = adapter_name
        self.events: list[Event] = []
        """What was removed, in order."""
        self._pruner: Pruner | None = None
        self._factors: list[nn.Parameter] = []
        self._before: list[Tensor] = []

    @property
    def pruner(self) -> Pruner:
        """The pruner at work. Raises CallbackError before training begins."""
        if self._pruner is None:
            raise CallbackError("the callback has no model yet: it gets it when the Trainer begins to train")
        return self._pruner

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checks model and Trainer, and watches from here on; goes on where a resumed checkpoint was.

        Raises CallbackError.
        """
        model: nn.Module = kwargs["model"]
        layers = adapted_layers(model, self.adapter_name)
        _check_layers(model, layers, self.adapter_name)
        _check_trainer(args, self.settings)
        self._pruner = Pruner(self.settings, layers, seed=args.seed, hold=True)
        self._factors = [factor for layer in layers for factor in (layer.A, layer.B)]
        if state.global_step > 0:
            self._pruner.load_state_dict(load_file(_checkpoint_file(args, state, must_exist=True)))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sums the statistics over the processes and takes them in, with this step's gradients."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for tensor in self.pruner.statistics():
                torch.distributed.all_reduce(tensor)
        self.pruner.observe()
        self._before = [] if self.pruner.rate_factor == 1.0 else [factor.detach().clone() for factor in self._factors]

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lengthens the step as components have gone, holds what is gone at zero, and removes what is due."""
        step = state.global_step + 1  # the Trainer counts after this
        for before, factor in zip(self._before, self._factors, strict=False):  # none is kept at an unchanged rate
            factor.data.copy_(torch.lerp(before, factor.data, self.pruner.rate_factor))
        self.pruner.enforce()
        event = self.pruner.step(step, step / state.max_steps, kwargs["optimizer"])
        if event is not None:
            self.events.append(event)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves the pruner beside the Trainer's checkpoint."""
        if state.is_world_process_zero:
            save_file(self.pruner.state_dict(), _checkpoint_file(args, state, must_exist=False))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shrinks the adapter and saves it."""
        model: Any = kwargs["model"]
        self.pruner.shrink(None)
        declare_ranks(model, self.adapter_name)
        if state.is_world_process_zero:
            base = model.peft_config[self.adapter_name].base_model_name_or_path or ""
            export(model, self.adapter_name, Path(str(args.output_dir)) / ADAPTER_FOLDER, base)


def _check_layers(model: nn.Module, layers: list[AdaptedLayer], adapter_name: str) -> None:
    if not layers:
        raise CallbackError(
            f"the model has no LoRA layers of an adapter {adapter_name!r}: wrap it with "
            "get_peft_model(model, LoraConfig(...)), or give SFTTrainer a peft_config"
        )
    for layer in layers:
        if variant := getattr(layer.module, "lora_variant", {}).get(adapter_name):
            kind = type(variant).__name__
            raise CallbackError(f"layer {layer.name!r} is of the LoRA variant {kind}; only plain LoRA can be pruned")
        if not isinstance(layer.lora_A, nn.Linear):
            kind = type(layer.lora_A).__name__
            raise CallbackError(f"layer {layer.name!r} has factors of type {kind}; only linear layers can be pruned")
        if layer.lora_B.bias is not None:
            raise CallbackError(f"layer {layer.name!r} has a bias on B (lora_bias), which an export cannot carry")
        if not layer.A.requires_grad:
            raise CallbackError(f"layer {layer.name!r}: adapter {adapter_name!r} is not trained (requires_grad is off)")
    for name, module in model.named_modules():
        if adapter_name in getattr(module, "lora_embedding_A", ()):
            raise CallbackError(f"{name!r} is an embedding with LoRA; only linear layers can be pruned")
    if len(ranks := sorted({layer.rank for layer in layers})) > 1:
        raise CallbackError(f"the layers start at ranks {ranks}; pruning starts from one rank (remove rank_pattern)")


def _check_trainer(args: TrainingArguments, settings: PruningSettings) -> None:
    if settings.curvature == "batch" and args.max_grad_norm:
        raise CallbackError(
            f"curvature 'batch' needs gradients that are not clipped, but the Trainer clips them at max_grad_norm "
            f"{args.max_grad_norm:g} before a callback sees them: set max_grad_norm=0, or curvature 'token'"
        )
    if args.load_best_model_at_end:
        raise CallbackError(
            "load_best_model_at_end would bring an adapter back from before its last removals: set it to False"
        )


def _checkpoint_file(args: TrainingArguments, state: TrainerState, *, must_exist: bool) -> Path:
    folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
    if must_exist and not (folder / STATE_FILE).is_file():
        raise CallbackError(f"cannot resume: {folder} has no {STATE_FILE}; it was saved without this callback")
    return folder / STATE_FILE
