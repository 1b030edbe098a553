"""Settings of one trial beside what it is run with: packages, numbers of examples, looks, a head that is new."""

from collections.abc import Sequence
from importlib.util import find_spec

from transformers import PreTrainedModel

from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import ModelConfig
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Task

FLASH_PACKAGES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn",
}
"""What each is imported from; without, transformers takes its kernels from the Hub through the package kernels."""


class PreflightError(ValueError):
    """A sweep whose trials could not run; the message names the setting."""


def check_packages(model: ModelConfig) -> None:
    """Raises PreflightError where quantised weights or FlashAttention lack their package here."""
    if model.quantization is not None and find_spec("bitsandbytes") is None:
        raise PreflightError(
            f"model.quantization {model.quantization!r} needs the package bitsandbytes: "
            "pip install 'prunedlora[cuda]' on every node"
        )
    if not model.needs_half_precision:
        return
    attention = f"model.attn_implementation {model.attn_implementation!r}"
    if model.attn_implementation not in FLASH_PACKAGES:
        raise PreflightError(f"{attention} is not known; known: {', '.join(FLASH_PACKAGES)}")
    package = FLASH_PACKAGES[model.attn_implementation]
    if find_spec(package) is None and find_spec("kernels") is None:
        raise PreflightError(f"{attention} needs the package {package}, or kernels, on every node")


def check_numbers(trial: TrialConfig, splits: Splits, num_workers: int) -> None:
    """Raises PreflightError for batches and evaluations of fewer examples than workers, or of more than there are."""
    smallest = {"training.batch_size": trial.training.batch_size}
    smallest |= {f"the number of {split} examples": len(getattr(splits, split)) for split in ("validation", "test")}
    for what, size in smallest.items():
        if size < num_workers:
            raise PreflightError(f"{what} {size} is below resources.num_workers {num_workers}: each needs an example")
    most, num_validation = trial.evaluation.max_examples, len(splits.validation)
    if most is not None and most < num_workers:
        raise PreflightError(
            f"evaluation.max_examples {most} is below resources.num_workers {num_workers}: each needs an example"
        )
    cuts = trial.free_cuts
    if cuts is not None and cuts.screen_examples is not None and cuts.screen_examples < num_workers:
        raise PreflightError(
            f"cuts.screen_examples {cuts.screen_examples} is below resources.num_workers {num_workers}: each needs an "
            "example"
        )
    if most is not None and most > num_validation:
        raise PreflightError(f"evaluation.max_examples {most} is above the {num_validation} validation examples")


def check_looks(stopping: StoppingConfig, trial: TrialConfig, num_validation: int, num_workers: int) -> None:
    """Raises PreflightError for looks at fewer examples than workers, or at more than candidates are evaluated on."""
    available = min(num_validation, trial.evaluation.max_examples or num_validation)
    asked = stopping.asked_examples
    if asked is not None and asked > available:
        raise PreflightError(
            f"stopping.examples {asked} is above the {available} validation examples that candidates are evaluated on; "
            "give no more, or null for all"
        )
    if asked is not None and asked < num_workers:
        raise PreflightError(
            f"stopping.examples {asked} is below resources.num_workers {num_workers}: each needs an example"
        )


def check_look_steps(stopping: StoppingConfig, num_steps: int) -> None:
    """Raises PreflightError unless each look at a training that has steps falls on one before its last."""
    for share in stopping.looks if num_steps else ():
        if not 0 < round(share * num_steps) < num_steps:
            raise PreflightError(
                f"stopping.looks {share:g} of {num_steps} steps is no step on the way; take shares that are nearest to "
                f"steps 1 to {num_steps - 1}"
                if num_steps > 1
                else f"stopping.looks {share:g}: a training of one step has none on the way; take more steps, or set "
                "stopping to null"
            )


def check_head(trial: TrialConfig, task: Task, model: PreTrainedModel, heads: Sequence[str]) -> None:
    """A classification head for these labels is new: it must train, or it would be random and not exported. Raises
    PreflightError where it would not."""
    prefix = model.base_model_prefix
    outside = [
        name for name, child in model.named_children() if name != prefix and any(True for _ in child.parameters())
    ]
    missing = [name for name in outside if not any(head == name or head.startswith(f"{name}.") for head in heads)]
    if task.labels is not None and missing:
        raise PreflightError(
            f"the head of {type(model).__name__} is new and must train: add {missing[0]!r} to adapter.head_modules "
            f"({trial.head_modules}) and give optimizer.head_learning_rate"
        )
