"""PrunedLoRA in a `transformers.Trainer`, and so in TRL's `SFTTrainer`: a callback.

    trainer = SFTTrainer(model, peft_config=LoraConfig(r=64, target_modules="all-linear"), ...)
    trainer.add_callback(PrunedLoraCallback(PruningConfig(target_rank=8, schedule={...})))
    trainer.train()

The numbers are those of our own loop (`prunedlora.pruning`). While the Trainer trains, shapes must not change, so what
is removed is held at zero; when it ends the adapter really shrinks, and a plain PEFT adapter is saved.
"""

import math
import warnings
from pathlib import Path
from typing import Any

import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prunedlora.adapters.carried import check_carried
from prunedlora.adapters.export import declare_ranks
from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.adapters.plain import plain_layers
from prunedlora.config.methods import PruningConfig, section_fields
from prunedlora.integrations.layer_checks import check_layers
from prunedlora.integrations.saved_adapter import check_saved, save_adapter
from prunedlora.integrations.trainer_checks import CallbackError, check_trainer
from prunedlora.integrations.training_inputs import TrainingInputs
from prunedlora.pruning.pruner import Event, Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.training.agreement import Agreement
from prunedlora.training.distributed import Workers

STATE_FILE = "pruner.safetensors"
"""Inside each of the Trainer's checkpoints."""


class TargetNotReachedWarning(UserWarning):
    """Training ended before everything was removed that was to go."""


class PrunedLoraCallback(TrainerCallback):
    """Prunes the LoRA adapter of the Trainer's model while it trains.

    Steps count as the Trainer's optimizer steps, progress by its `max_steps`. Gradients reach a callback after the
    Trainer has clipped them, so what is made of them (`curvature: batch`, criterion `taylor`, `gradient_cap`) needs
    `max_grad_norm=0`; `token` collects before. Statistics weigh steps by the Trainer's own loss, a mean over the batch,
    where our loop sums over targets: with batches of equally many targets both remove the same components.
    `gradient_cap` needs to know how many those are: `labels` among what the model is called with (with gradient
    accumulation, of a model whose loss the Trainer divides by all of a step's targets, as language models' is).

    The learning rate that the Trainer sets, and logs, is the one before components went: `rate_growth` lengthens the
    optimizer's steps of A and B after them, which for Adam and its like is the same as a larger rate.

    A step whose statistics or gradients are not finite is not observed, and nothing is removed after it. What an
    exported adapter would not carry, DeepSpeed, FSDP and fp16 are refused when training begins.

    After training the model's adapter is small, `<output_dir>/pruned_adapter` holds it as a plain PEFT adapter, which
    has been loaded again and compared (weights always, logits for language models and classifiers of text), and
    `trainer.save_model()` and `push_to_hub()` save it with its true ranks. TargetNotReachedWarning says when training
    was over before pruning was.
    """

    def __init__(self, pruning: PruningConfig, *, adapter_name: str = "default") -> None:
        self.settings = PruningSettings(**section_fields(pruning))
        self.adapter_name = adapter_name
        self.events: list[Event] = []
        """What the present, or last, training has removed, in order."""
        self._pruner: Pruner | None = None
        self._has_ended = False
        self._inputs: TrainingInputs | None = None
        self._workers = Workers(0, 1, torch.device("cpu"))
        self._agreement = Agreement()
        self._is_observed = False
        """Whether the step under way is."""
        self._layers: list[AdaptedLayer] = []
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
        self._workers = _workers(args)
        self._leave_earlier(state)
        layers = adapted_layers(model, self.adapter_name)
        check_layers(model, layers, self.adapter_name)
        check_trainer(args, self.settings, kwargs["optimizer"])
        try:
            check_carried(model, self.adapter_name)
            num_steps = None if _is_compiled(args, model) else state.max_steps
            self._pruner = Pruner(self.settings, layers, seed=args.seed, hold=True, num_steps=num_steps)
        except ValueError as error:  # NotCarriedError, or a target or schedule that cannot be
            raise CallbackError(str(error)) from error
        self._inputs = TrainingInputs(model)
        self._layers, self._agreement, self._has_ended, self.events = layers, Agreement(), False, []
        if state.global_step > 0:
            self._pruner.load_state_dict(load_file(_checkpoint_file(args, state, must_exist=True)))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sums the statistics over the processes and takes them in, with this step's gradients.

        Raises CallbackError for a `gradient_cap` where the number of targets is not known.
        """
        # Once all is gone there is nothing to observe, and looking would make the device wait.
        self._is_observed = self.pruner.is_done or self._observe()
        self._before = [] if self.pruner.rate_factor == 1.0 else [factor.detach().clone() for factor in self._factors()]

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lengthens the step as components have gone, holds what is gone at zero, and removes what is due.

        Raises CallbackError when the step has left factors that are not finite, WorkersDifferError when the processes
        have removed different components.
        """
        step = state.global_step + 1  # the Trainer counts after this
        pruner, progress = self.pruner, step / state.max_steps
        for before, factor in zip(self._before, self._factors(), strict=False):  # none is kept at an unchanged rate
            factor.data.copy_(torch.lerp(before, factor.data, pruner.rate_factor))
        pruner.enforce()
        may_remove = not pruner.is_done and pruner.may_remove(step, progress)
        if not self._is_observed and not _are_finite([factor.data for factor in self._factors()]):
            raise CallbackError(f"the adapter is not finite after step {step}: a gradient was infinite or NaN")
        event = pruner.step(step, progress, kwargs["optimizer"])
        if event is not None:
            self._agreement.add(event)
            self.events.append(event)
        if may_remove:  # what all processes know alike, so that none waits for the others in vain
            self._agreement.confirm(self._workers)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves the pruner beside the Trainer's checkpoint."""
        if state.is_world_process_zero:
            save_file(self.pruner.state_dict(), _checkpoint_file(args, state, must_exist=False))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shrinks the adapter, saves it, and compares what was saved with what was trained.

        Warns of a target that is not reached. Raises CallbackError for a saved adapter that is another one than was
        trained, or that the model cannot be compared on: it is there nevertheless.
        """
        model: Any = kwargs["model"]
        example = self._watched_example(next(model.parameters()).device)
        trained = plain_layers(model, self.adapter_name)
        self._shrink(kwargs["optimizer"])
        declare_ranks(model, self.adapter_name)
        self._has_ended = True
        if not state.is_world_process_zero:
            return
        folder = save_adapter(model, self.adapter_name, args.output_dir)
        self._warn_of_what_is_left(state)
        check_saved(model, self.adapter_name, folder, trained, example)

    def _leave_earlier(self, state: TrainerState) -> None:
        """Ends what an earlier training of this callback has left. Raises CallbackError where it cannot be gone on
        from."""
        if self._pruner is None:
            return
        if self._has_ended and self._workers.num_workers > 1:
            raise CallbackError(
                "a second train() under DDP would not add up the gradients of the smaller adapter: make a new Trainer "
                "with trainer.model"
            )
        if not self._has_ended and self.events and state.global_step == 0:
            raise CallbackError(
                f"the training before ended without its last step and left {len(self.events)} removals in the adapter: "
                "resume from a checkpoint, or begin with a new adapter"
            )
        self._pruner.close()
        if self._inputs is not None:
            self._inputs.close()

    def _factors(self) -> list[nn.Parameter]:
        return [factor for layer in self._layers for factor in (layer.A, layer.B)]

    def _observe(self) -> bool:
        """Takes in this step's statistics and gradients; False, and takes in nothing, where they are not finite."""
        pruner, statistics = self.pruner, self.pruner.statistics()
        like = statistics[0] if statistics else torch.zeros(1, device=self._workers.device)
        # From the first step on: that nobody can tell must not come out when observing begins.
        counts = [self._num_targets(like)] if pruner.needs_gradient_scale else []
        self._workers.sum_([*statistics, *counts])
        scale = self._gradient_scale(float(counts[0])) if counts else None
        gradients = [factor.grad for factor in self._factors() if factor.grad is not None]
        is_finite = _are_finite([*statistics, *gradients])
        if is_finite:
            pruner.observe(scale)
        else:
            pruner.discard()
        return is_finite

    def _num_targets(self, like: Tensor) -> Tensor:
        """Of this process, (1,), NaN where it is not known; of the type of the statistics, to be summed in one with
        them: exact up to 2²⁴ targets a step, beyond that to 7 digits."""
        assert self._inputs is not None
        known = self._inputs.take_num_targets()
        return like.new_tensor([math.nan if known is None else known])

    def _gradient_scale(self, num_targets: float) -> float:
        """`num_targets`: of this step, over all processes, each of which takes a mean over its own."""
        num_workers = self._workers.num_workers
        if not num_targets > 0:
            raise CallbackError(
                "gradient_cap needs the number of targets of a step, but the model is called without labels, or with "
                "none that counts: leave gradient_cap unset"
            )
        # N c²: a target's loss counts c = num_workers / N times in the backward pass of its process.
        return num_workers**2 / num_targets

    def _watched_example(self, device: torch.device) -> dict[str, Tensor] | None:
        assert self._inputs is not None
        self._inputs.close()
        example = self._inputs.example
        return None if example is None else {name: tensor.to(device) for name, tensor in example.items()}

    def _shrink(self, optimizer: Any) -> None:
        """Also in the optimizer, which a second `train()` of the Trainer goes on with: of these factors from zero
        moments, since some optimizers keep them in blocks that no component has to itself."""
        for factor in self._factors():
            optimizer.state.pop(factor, None)
        self.pruner.shrink(optimizer)

    def _warn_of_what_is_left(self, state: TrainerState) -> None:
        if self.pruner.is_done:
            return
        ranks = self.pruner.ranks.values()
        warnings.warn(
            f"training ended after {state.global_step} of {state.max_steps} steps, when {self.pruner.done_share:.0%} "
            f"of what was to go was gone: the saved adapter has ranks {min(ranks)} to {max(ranks)}, "
            f"{sum(ranks)} components in {len(ranks)} layers",
            TargetNotReachedWarning,
            stacklevel=2,
        )


def _is_compiled(args: TrainingArguments, model: nn.Module) -> bool:
    """Whether torch compiles any of it: hooks that come after the first pass are then not seen (torch 2.13,
    `skip_nnmodule_hook_guards`), so that they must be there from the beginning."""
    return args.torch_compile or any(
        isinstance(module, OptimizedModule) or module._compiled_call_impl is not None for module in model.modules()
    )


def _workers(args: TrainingArguments) -> Workers:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Workers(torch.distributed.get_rank(), torch.distributed.get_world_size(), args.device)
    return Workers(0, 1, args.device)


def _are_finite(tensors: list[Tensor]) -> bool:
    return not tensors or math.isfinite(float(nn.utils.get_total_norm(tensors, math.inf)))


def _checkpoint_file(args: TrainingArguments, state: TrainerState, *, must_exist: bool) -> Path:
    folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
    if must_exist and not (folder / STATE_FILE).is_file():
        raise CallbackError(f"cannot resume: {folder} has no {STATE_FILE}; it was saved without this callback")
    return folder / STATE_FILE
