"""What of a `transformers.Trainer` PrunedLoRA cannot work under, refused by name before the first step."""

from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from transformers import TrainingArguments
from transformers.trainer_pt_utils import LayerWiseDummyOptimizer

from prunedlora.pruning.averages import reads_gradients
from prunedlora.pruning.pruning_settings import PruningSettings

LONE_OR_REPLICATED = ("NO", "MULTI_")
"""How accelerate's distributed types begin under which every process holds the whole model (DDP), or is alone."""


class CallbackError(RuntimeError):
    """A model or Trainer that PrunedLoRA cannot work with; the message says why and what would do."""


def check_trainer(args: TrainingArguments, settings: PruningSettings, optimizer: Any) -> None:
    """Raises CallbackError."""
    if args.max_grad_norm and reads_gradients(settings):
        what = "gradient_cap" if settings.gradient_cap is not None else f"curvature {settings.curvature!r}"
        what = f"criterion {settings.criterion!r}" if settings.curvature is None else what
        raise CallbackError(
            f"{what} needs gradients that are not clipped, but the Trainer clips them at max_grad_norm "
            f"{args.max_grad_norm:g} before a callback sees them: set max_grad_norm=0, or leave gradients out "
            "(criterion 'gradient' with curvature 'token')"
        )
    if args.load_best_model_at_end:
        raise CallbackError(
            "load_best_model_at_end would bring an adapter back from before its last removals: set it to False"
        )
    if settings.gradient_cap is not None and (kind := _other_loss(args)):
        raise CallbackError(
            f"gradient_cap reckons with a loss that is a mean over targets, and {kind}'s loss is none: leave "
            "gradient_cap unset"
        )
    _check_optimizer(optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer)
    _check_processes(args)
    _check_precision(args, optimizer)


def _other_loss(args: TrainingArguments) -> str | None:
    """The arguments' class where they are of a Trainer of TRL's that is none of language modelling: preferences,
    rewards, …; by its name, since TRL need not be installed."""
    kinds = [kind for kind in type(args).__mro__ if kind.__module__.startswith("trl.")]
    return kinds[0].__name__ if kinds and all(kind.__name__ != "SFTConfig" for kind in kinds) else None


def _check_optimizer(optimizer: Any) -> None:
    """By what the optimizer is, wherever it comes from (`optim`, or `optimizers` of the Trainer)."""
    kind = type(optimizer)
    if callable(getattr(kind, "train", None)) and callable(getattr(kind, "eval", None)):  # schedule-free
        what = "trains other weights than those that are evaluated"
    elif isinstance(optimizer, LayerWiseDummyOptimizer) or hasattr(kind, "fused_backward"):  # *_layerwise; lomo
        what = "changes weights in the backward pass"
    elif getattr(optimizer, "master_weights", None):  # fused optimizers of Apex and Transformer Engine
        what = "keeps master copies of the weights"
    else:
        return
    raise CallbackError(
        f"the optimizer {kind.__name__} {what}, where what is removed cannot be held at zero: take another, "
        "adamw_torch for example"
    )


def _check_processes(args: TrainingArguments) -> None:
    kind = AcceleratorState().distributed_type.value
    if args.deepspeed or kind == "DEEPSPEED":
        raise CallbackError(
            "DeepSpeed keeps master copies of the weights, which bring removed components back, and shares gradients "
            "out: train under DDP (torchrun, or accelerate's multi-GPU setting); an adapter's optimizer state is small"
        )
    if args.fsdp or kind == "FSDP":
        raise CallbackError(
            "FSDP shares the factors out over the processes, where none of them sees a whole one: train under DDP "
            "(torchrun, or accelerate's multi-GPU setting), with a quantised base model where it must be smaller"
        )
    if not kind.startswith(LONE_OR_REPLICATED):
        raise CallbackError(f"distributed type {kind} is none that PrunedLoRA works under: train under DDP (torchrun)")
    if args.n_gpu > 1:
        raise CallbackError(
            f"one process drives {args.n_gpu} GPUs (torch's DataParallel), whose copies of the model cannot be "
            "watched: start one process a GPU, with torchrun or accelerate launch"
        )


def _check_precision(args: TrainingArguments, optimizer: Any) -> None:
    scaler = getattr(optimizer, "scaler", None)
    if args.fp16 or AcceleratorState().mixed_precision == "fp16" or scaler is not None:
        raise CallbackError(
            "fp16 scales the loss, and so what is observed, by a factor that changes from step to step, and lets "
            "gradients overflow: train in bf16 (bf16=True), or in float32"
        )
