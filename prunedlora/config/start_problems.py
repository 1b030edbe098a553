"""What does not go with an adapter that is looked at before a first step: evaluated as it is, cut, or laddered down."""

from prunedlora.config.cuts import CutsConfig
from prunedlora.config.evaluation_section import EvaluationConfig
from prunedlora.config.methods import PruningConfig
from prunedlora.config.trial_sections import AdapterConfig, OptimizerConfig
from prunedlora.registry import lookup

UNTRAINED = ("lora", "svd")
"""Methods that leave an adapter as it is until its training is over."""
RATES = ("learning_rate", "head_learning_rate")


def untrained_problems(
    adapter: AdapterConfig | None,
    cuts: CutsConfig | None,
    evaluation: EvaluationConfig,
    optimizer: OptimizerConfig,
    seed: int,
) -> list[str]:
    """What is wrong beside training.num_steps 0; empty: nothing. The rates, which a section of the optimizer cannot be
    without, have no effect either, and enter no key (identity.py)."""
    if adapter is None or adapter.start_from is None:
        return ["training.num_steps 0 trains nothing: give adapter.start_from, an adapter that exists, or steps"]
    problems = []
    if adapter.method not in UNTRAINED:
        problems.append(
            f"training.num_steps 0 leaves method {adapter.method!r}, which acts while it trains, without effect; take "
            "lora with cuts, or svd"
        )
    elif adapter.method == "lora" and cuts is None:
        problems.append("training.num_steps 0 makes nothing of adapter.start_from without cuts: give cuts, or steps")
    if cuts is not None and cuts.at == "start":
        problems.append("cuts.at 'start' is the end where training.num_steps is 0; set it to end")
    if evaluation.milestones:
        problems.append("evaluation.milestones has no effect where training.num_steps is 0; remove it")
    if adapter.dropout:
        problems.append(f"adapter.dropout {adapter.dropout:g} has no effect where training.num_steps is 0; remove it")
    for name, field in OptimizerConfig.model_fields.items():
        value = getattr(optimizer, name)
        if name not in RATES and value != field.default:
            problems.append(f"optimizer.{name} {value} has no effect where training.num_steps is 0; remove it")
    if seed and (cuts is None or "whitened" not in cuts.bases):
        problems.append(
            f"seed {seed} has no effect where training.num_steps is 0 and no basis whitened is calibrated; remove it"
        )
    return problems


def trunk_problems(adapter: AdapterConfig | None, pruning: PruningConfig | None, cuts: CutsConfig | None) -> list[str]:
    """What is wrong beside a ladder with trunk 0, or for want of one; empty: nothing."""
    ladder = None if pruning is None else pruning.ladder
    if pruning is None or ladder is None or ladder.trunk > 0:
        if cuts is not None and cuts.at == "start":
            return ["cuts.at 'start' needs pruning.schedule 'ladder' with trunk 0; set it to end, or cuts to null"]
        return []
    if adapter is None or adapter.start_from is None:
        return [
            "pruning.schedule.trunk 0 begins a ladder with an adapter as it is: give adapter.start_from, or a trunk "
            "above 0"
        ]
    if pruning.ema_decay is not None and not lookup("schedule", ladder.removal).needs_end:
        who = f"criterion {pruning.criterion!r}" if pruning.basis == "raw" else f"basis {pruning.basis!r}"
        if pruning.basis == "raw" and pruning.recovery_strength:
            who += f" with recovery_strength {pruning.recovery_strength:g}"
        return [
            f"pruning.schedule.trunk 0 with removal {ladder.removal!r} removes before the first step, when {who} has "
            "no statistics yet: take basis svd, or a removal in events (cubic)"
        ]
    return []
