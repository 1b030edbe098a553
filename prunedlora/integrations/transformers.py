"""PrunedLoRA in a `transformers.Trainer`, and so in TRL's `SFTTrainer` and `DPOTrainer`: a callback.

    trainer = SFTTrainer(model, peft_config=LoraConfig(r=64, target_modules="all-linear"), ...)
    trainer.add_callback(PrunedLoraCallback(PruningConfig(target_rank=8, schedule={...})))
    trainer.train()

The numbers are those of our own loop (`prunedlora.pruning`). While the Trainer trains, shapes must not change, so what
is removed is held at zero; when it ends the adapter really shrinks, and a plain PEFT adapter is saved; down a ladder,
one of every rung.
"""

import math
import warnings
from collections.abc import Iterator
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
from prunedlora.integrations.ladder_checks import check_rate
from prunedlora.integrations.layer_checks import check_layers
from prunedlora.integrations.rung_adapters import RungAdapters
from prunedlora.integrations.saved_adapter import ADAPTER_FOLDER, check_saved, save_adapter
from prunedlora.integrations.step_lengths import StepLengths
from prunedlora.integrations.trainer_checks import CallbackError, check_trainer
from prunedlora.integrations.training_inputs import TrainingInputs
from prunedlora.pruning.pruner import Event, Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.training.agreement import Agreement
from prunedlora.training.course import Course
from prunedlora.training.distributed import Workers

STATE_FILE = "pruner.safetensors"
"""Inside each of the Trainer's checkpoints."""


class TargetNotReachedWarning(UserWarning):
    """Training ended before everything was removed that was to go, or before a ladder's last rung was done."""


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

    Down a ladder, every rung (and the trunk, rung 0) leaves an adapter as it is when the rung ends:

        ladder = {"name": "ladder", "rungs": {"mean_rank": [4, 1, 0.25]}}
        pruning = PruningConfig(schedule=ladder, basis="svd", allocation="global_per_parameter", min_rank=0)
        trainer.add_callback(PrunedLoraCallback(pruning))  # its arguments have lr_scheduler_type="constant"

    `<output_dir>/rungs/<number>-<parameters>` is a plain PEFT adapter of its true ranks, loaded again and compared as
    the last one is; `<output_dir>/rungs/rungs.json` lists them (rung_adapters.py). The model goes on training as it
    was. On the step that ends a rung the Trainer evaluates and saves the adapter that the rung leaves; what goes with
    the next rung goes before the next step's first pass. A checkpoint of any step is gone on from.

    Where the ladder's rate restarts (the default), the Trainer's schedule must be constant: the callback makes warm-up
    (the ladder's `warmup`, of the trunk too) and linear decay, by the lengths of the steps of everything that trains,
    modules_to_save among it. With rate "continue" the Trainer's schedule does as it says. Rate "branch" is refused: a
    Trainer cannot go back. Where `optimizer_state` is new, the optimizer's state of everything that trains is begun
    anew at a rung; what some optimizers keep beside their parameters' state stays.

    A step whose statistics or gradients are not finite is not observed, and nothing is removed after it. What an
    exported adapter would not carry, DeepSpeed, FSDP and fp16 are refused when training begins.

    After training the model's adapter is small, `<output_dir>/pruned_adapter` holds it as a plain PEFT adapter, which
    has been loaded again and compared (weights always, logits for language models and classifiers of text), and
    `trainer.save_model()` and `push_to_hub()` save it with its true ranks. TargetNotReachedWarning says when training
    was over before pruning was.
    """

    def __init__(self, pruning: PruningConfig, *, adapter_name: str = "default") -> None:
        """`pruning`: towards one target, or down a ladder. `adapter_name`: PEFT's, of the adapter that is pruned."""
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
        self._others: list[nn.Parameter] = []
        """What is trained beside A and B."""
        self._step_lengths = StepLengths()
        self._course: Course | None = None
        """Where the callback sets the learning rate: a ladder's whose rate restarts."""
        self._rungs: RungAdapters | None = None

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
        ladder = self.settings.ladder
        if ladder is not None:
            check_rate(ladder, args, kwargs["lr_scheduler"], state.max_steps)
        try:
            check_carried(model, self.adapter_name)
            self._pruner = Pruner(
                self.settings,
                layers,
                seed=args.seed,
                hold=True,
                num_steps=state.max_steps,
                from_start=_is_compiled(args, model),
            )
        except ValueError as error:  # NotCarriedError, or a target or schedule that cannot be
            raise CallbackError(str(error)) from error
        self._course = None
        if ladder is not None and ladder.rate == "restart":
            assert ladder.warmup is not None
            self._course = Course(state.max_steps, ladder.warmup, "linear", ladder)
        self._inputs = TrainingInputs(model)
        self._layers, self._agreement, self._has_ended, self.events = layers, Agreement(), False, []
        factors = {id(factor) for factor in self._factors()}
        self._others = [p for p in model.parameters() if p.requires_grad and id(p) not in factors]
        if state.global_step > 0:
            self._pruner.load_state_dict(load_file(_checkpoint_file(args, state, must_exist=True)))
        self._rungs = None
        if ladder is not None and state.is_world_process_zero:
            self._rungs = RungAdapters(args.output_dir, self._pruner.rungs, state.global_step)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins the rung that begins here, if any: also in a training that is gone on with there.

        Raises WorkersDifferError when the processes have removed different components.
        """
        ladder, step = self.settings.ladder, state.global_step
        if ladder is None or all(rung.begin != step for rung in self.pruner.rungs[1:]):
            return
        self._note(self.pruner.begin_rung(step, kwargs["optimizer"]))
        self._agreement.confirm(self._workers)
        if ladder.optimizer_state == "new":
            kwargs["optimizer"].state.clear()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sums the statistics over the processes and takes them in, with this step's gradients.

        Raises CallbackError for a `gradient_cap` where the number of targets is not known.
        """
        # Once all is gone there is nothing to observe, and looking would make the device wait.
        self._is_observed = self.pruner.is_done or self._observe()
        self._step_lengths.keep(self._rates(state))

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lengthens the step as components have gone and a ladder's rate says, holds what is gone at zero, and removes
        what is due.

        Raises CallbackError when the step has left factors that are not finite, WorkersDifferError when the processes
        have removed different components.
        """
        step = state.global_step + 1  # the Trainer counts after this
        pruner, progress = self.pruner, step / state.max_steps
        self._step_lengths.apply()
        pruner.enforce()
        may_remove = not pruner.is_done and pruner.may_remove(step, progress)
        if not self._is_observed and not _are_finite([factor.data for factor in self._factors()]):
            raise CallbackError(f"the adapter is not finite after step {step}: a gradient was infinite or NaN")
        self._note(pruner.step(step, progress, kwargs["optimizer"]))
        if may_remove:  # what all processes know alike, so that none waits for the others in vain
            self._agreement.confirm(self._workers)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leaves the adapter of the rung that ends here, if any."""
        if self._rungs is not None:
            for rung in self.pruner.rungs:
                if rung.end == state.global_step:
                    model, live = kwargs["model"], self.pruner.live
                    self._rungs.leave(model, self.adapter_name, rung, live, self._example(model))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Saves the pruner beside the Trainer's checkpoint."""
        if state.is_world_process_zero:
            save_file(self.pruner.state_dict(), _checkpoint_file(args, state, must_exist=False))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shrinks the adapter, saves it, and compares what was saved with what was trained.

        Warns of a target that is not reached. Raises CallbackError for a saved adapter that is another one than was
        trained, or that the model cannot be compared on, one of a rung too: it is there nevertheless.
        """
        model: Any = kwargs["model"]
        assert self._inputs is not None
        self._inputs.close()
        trained = plain_layers(model, self.adapter_name)
        self._shrink(kwargs["optimizer"])
        declare_ranks(model, self.adapter_name)
        self._has_ended = True
        if not state.is_world_process_zero:
            return
        folder, layers = Path(str(args.output_dir)) / ADAPTER_FOLDER, plain_layers(model, self.adapter_name)
        save_adapter(model, self.adapter_name, folder, layers)
        self._warn_of_what_is_left(state)
        check_saved(model, self.adapter_name, folder, trained, layers, self._example(model))
        if self._rungs is not None and self._rungs.not_verified:
            raise self._rungs.not_verified[0]

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

    def _note(self, event: Event | None) -> None:
        if event is not None:
            self._agreement.add(event)
            self.events.append(event)

    def _rates(self, state: TrainerState) -> Iterator[tuple[nn.Parameter, float]]:
        """What the next step is to be multiplied by, of each parameter that trains."""
        rate = 1.0
        if state.global_step >= state.max_steps:
            rate = 0.0  # a Trainer that goes on from the checkpoint of the last step does one more before it ends
        elif self._course is not None:
            rate = self._course.rate(state.global_step)
        for factor in self._factors():
            yield factor, rate * self.pruner.rate_factor
        for parameter in self._others:
            yield parameter, rate

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

    def _example(self, model: nn.Module) -> dict[str, Tensor] | None:
        assert self._inputs is not None
        example, device = self._inputs.example, next(model.parameters()).device
        return None if example is None else {name: tensor.to(device) for name, tensor in example.items()}

    def _shrink(self, optimizer: Any) -> None:
        """Also in the optimizer, which a second `train()` of the Trainer goes on with: of these factors from zero
        moments, since some optimizers keep them in blocks that no component has to itself."""
        for factor in self._factors():
            optimizer.state.pop(factor, None)
        self.pruner.shrink(optimizer)

    def _warn_of_what_is_left(self, state: TrainerState) -> None:
        if self._rungs is not None:
            unfinished = self._rungs.unfinished(state.global_step)
        else:
            share = f"when {self.pruner.done_share:.0%} of what was to go was gone"
            unfinished = None if self.pruner.is_done else share
        if unfinished is None:
            return
        ranks = self.pruner.ranks.values()
        warnings.warn(
            f"training ended after {state.global_step} of {state.max_steps} steps, {unfinished}: "
            f"the saved adapter has ranks {min(ranks)} to {max(ranks)}, "
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
