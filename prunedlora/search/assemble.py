"""A configuration → the live objects of the layers below, which know no configuration."""

from typing import Any

from torch.optim import AdamW

from prunedlora.adapters.attach import AdapterSettings
from prunedlora.config.trial import TrialConfig
from prunedlora.methods.protocol import Method
from prunedlora.pruning.pruner import PruningSettings
from prunedlora.registry import lookup
from prunedlora.search.assets import Assets
from prunedlora.training.data import BatchOrder
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Trial


def build_method(trial: TrialConfig) -> Method:
    """The configuration's method, not attached yet."""
    fields = trial.adapter.model_dump()
    kind = lookup("method", fields.pop("method"))
    adapter = AdapterSettings(**fields)
    if trial.pruning is None:
        method: Method = kind(adapter, trial.seed)
        return method
    pruning = trial.pruning.model_dump()
    schedule = pruning.pop("schedule")
    method = kind(adapter, trial.seed, PruningSettings(schedule=schedule.pop("name"), **schedule, **pruning))
    return method


def milestone_steps(config: TrialConfig, num_steps: int) -> frozenset[int]:
    """The optimizer steps after which a candidate is made: the nearest to each milestone, and the last."""
    return frozenset({num_steps, *(max(1, round(share * num_steps)) for share in config.evaluation.milestones)})


def build_trial(config: TrialConfig, assets: Assets, model: Any, method: Any, workers: Workers) -> Trial:
    """The live objects of a configuration on an attached model, before its first step."""
    settings, training = config.optimizer, config.training
    if training.batch_size < workers.num_workers:
        raise ValueError(f"training.batch_size {training.batch_size} is below the {workers.num_workers} workers")
    order = BatchOrder(assets.train, training.batch_size, training.micro_batch_size, config.seed)
    num_steps = training.num_steps or order.num_steps(training.num_epochs or 0.0)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    factors = [parameter for name, parameter in trained.items() if ".lora_" in name]
    head = [parameter for name, parameter in trained.items() if ".lora_" not in name]
    groups, rates = [{"params": factors}], [settings.learning_rate]
    if head:
        groups.append({"params": head})
        rates.append(settings.head_learning_rate or settings.learning_rate)
    optimizer = AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    return Trial(
        model=model,
        task=assets.task,
        method=method,
        optimizer=optimizer,
        order=order,
        num_steps=num_steps,
        warmup=settings.warmup,
        decay=settings.decay,
        max_grad_norm=settings.max_grad_norm,
        dtype=assets.base.dtype,
        seed=config.seed,
        peak_rates=rates,
    )
