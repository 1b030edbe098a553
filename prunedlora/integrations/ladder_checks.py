"""Who sets the learning rate down a ladder under a `transformers.Trainer`: refused by name where two would, or nobody
could."""

from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments

from prunedlora.integrations.trainer_checks import CallbackError
from prunedlora.pruning.ladder import Ladder


def check_rate(ladder: Ladder, args: TrainingArguments, scheduler: Any, num_steps: int) -> None:
    """`scheduler`: the Trainer's, wherever it comes from. Raises CallbackError."""
    if ladder.trunk == 0:
        raise CallbackError(
            "a ladder with trunk 0 makes a candidate before the first step, which a Trainer does not call for: give "
            "it a trunk above 0, or train it with prunedlora's own loop (jobs/train.py)"
        )
    if ladder.rate == "branch":
        raise CallbackError(
            "a ladder of rate 'branch' goes back to where each branch began, which a Trainer cannot: give the ladder "
            "rate 'restart' or 'continue', or train it with prunedlora's own loop (jobs/train.py)"
        )
    if ladder.rate == "continue":
        return
    if not _is_constant(scheduler, num_steps):
        kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        raise CallbackError(
            "a ladder of rate 'restart' (the default) warms the learning rate up and lets it decay at every rung, but "
            f"so does the Trainer's own schedule ({type(scheduler).__name__}, lr_scheduler_type {kind!r}): set "
            "lr_scheduler_type='constant', or give the ladder rate 'continue', which leaves the rate to the Trainer"
        )
    if steps := args.get_warmup_steps(num_steps):
        raise CallbackError(
            f"a warm-up of {steps} steps (warmup_steps, warmup_ratio) has no effect on a constant schedule: remove it; "
            "a ladder of rate 'restart' has a warm-up of its own (warmup), also of the trunk"
        )


def _is_constant(scheduler: Any, num_steps: int) -> bool:
    """By what it does at every step: one of the user's own may be constant too."""
    return isinstance(scheduler, LambdaLR) and all(
        factor(step) == 1.0 for factor in scheduler.lr_lambdas for step in range(num_steps)
    )
