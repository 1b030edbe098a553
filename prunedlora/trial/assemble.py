"""A configuration → the live objects of the layers below, which know no configuration."""

from collections.abc import Callable, Collection
from typing import Any

from torch.optim import AdamW

from prunedlora.adapters.targets import resolve_head
from prunedlora.config.methods import section_fields
from prunedlora.config.trial import TrialConfig
from prunedlora.methods.method import Method
from prunedlora.registry import lookup
from prunedlora.settings_error import SettingsError
from prunedlora.training.course import Course
from prunedlora.training.data import BatchOrder, num_epoch_steps
from prunedlora.training.distributed import Workers
from prunedlora.training.gradient_checkpointing import can_checkpoint, set_gradient_checkpointing
from prunedlora.training.loss_scale import loss_scale_for
from prunedlora.training.memory import Fit
from prunedlora.training.trial import Trial
from prunedlora.trial.assets import Assets
from prunedlora.trial.start import adapter_settings, start_of

FUSED_DEVICES = ("cpu", "cuda")
"""Where AdamW is one kernel for all parameters, whose state follows removals (tests); torch has others, not tried."""


def num_steps(trial: TrialConfig, num_examples: int) -> int:
    """Length of the training in optimizer steps, on a training split of `num_examples`."""
    training = trial.training
    if training.num_steps is not None:
        return training.num_steps
    assert training.num_epochs is not None
    return num_epoch_steps(num_examples, training.batch_size, training.num_epochs)


def build_method(trial: TrialConfig, num_steps: int, reached: Collection[str] | None = None) -> Method:
    """The configuration's method for a training of `num_steps`, not attached yet. `reached`: what it may adapt (Reach).

    Raises ValueError for settings that a training of this length does not allow; as start_of for an adapter that the
    trial begins with.
    """
    kind = lookup("method", trial.method)
    settings = None if kind.section is None else kind.settings_type(**section_fields(getattr(trial, kind.section)))
    method: Method = kind(adapter_settings(trial, start_of(trial), reached), trial.seed, num_steps, settings)
    return method


def build_course(config: TrialConfig, method: Method, num_steps: int) -> Course:
    """How a training of the configuration goes: down the ladder of `method`, or past milestones, the nearest steps."""
    settings = config.optimizer
    return Course(num_steps, settings.warmup, settings.decay, method.ladder, milestone_steps(config, num_steps))


def milestone_steps(config: TrialConfig, num_steps: int) -> frozenset[int]:
    """The steps nearest to the configuration's milestones, in a training of `num_steps`."""
    return frozenset(max(1, round(share * num_steps)) for share in config.evaluation.milestones)


def build_trial(config: TrialConfig, assets: Assets, model: Any, method: Method, workers: Workers) -> Trial:
    """The live objects of a configuration on an attached model, before its first step; gradient checkpointing is as the
    configuration says, whatever a trial before it has left on the base."""
    settings, training = config.optimizer, config.training
    checkpointing = config.model.gradient_checkpointing
    set_gradient_checkpointing(model, checkpointing is True)
    if training.batch_size < workers.num_workers:
        raise SettingsError(f"training.batch_size {training.batch_size} is below the {workers.num_workers} workers")
    own = method.own_groups()
    own_parameters = {parameter for group in own for parameter in group.parameters}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    in_head = _head_test(config, model)
    body = [p for name, p in trained.items() if not in_head(name) and p not in own_parameters]
    head = [p for name, p in trained.items() if in_head(name)]
    groups: list[dict[str, Any]] = [{"params": body}]
    rates = [settings.learning_rate]
    if head:
        groups.append({"params": head})
        rates.append(settings.head_learning_rate or settings.learning_rate)
    # After the groups whose rates the loop sets: these keep theirs.
    groups += [{"params": group.parameters, "lr": group.learning_rate, "weight_decay": 0.0} for group in own]
    optimizer = AdamW(
        groups,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True if workers.device.type in FUSED_DEVICES else None,  # None: as fast as torch can
    )
    return Trial(
        model=model,
        task=assets.task,
        method=method,
        optimizer=optimizer,
        order=BatchOrder(
            assets.train, training.batch_size, training.micro_batch_size, training.micro_batch_tokens, config.seed
        ),
        course=build_course(config, method, num_steps(config, len(assets.train))),
        max_grad_norm=settings.max_grad_norm,
        dtype=assets.base.dtype,
        seed=config.seed,
        peak_rates=rates,
        fit=Fit(gradient_checkpointing=checkpointing is True),
        may_checkpoint=checkpointing is None and can_checkpoint(model),
        loss_scale=loss_scale_for(assets.base.dtype),
    )


def _head_test(config: TrialConfig, model: Any) -> Callable[[str], bool]:
    """Tells by a parameter's name whether it belongs to the head."""
    if config.adapter is not None:
        return lambda name: ".lora_" not in name
    heads = tuple(f"{name}." for name in resolve_head(model, config.head_modules))
    return lambda name: name.startswith(heads)
