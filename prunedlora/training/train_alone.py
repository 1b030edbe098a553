"""Training with nobody to tell: no log, no checkpoints."""

from collections.abc import Callable

from prunedlora.training.distributed import Workers
from prunedlora.training.loop import StepLog, Verdict, train
from prunedlora.training.trial import Trial


def train_alone(
    live: Trial,
    workers: Workers,
    *,
    on_step: Callable[[StepLog], Verdict] = lambda _: Verdict.CONTINUE,
    on_milestone: Callable[[], Verdict] = lambda: Verdict.CONTINUE,
) -> None:
    """As `train`, whose errors it raises: to the last step, unless told otherwise."""
    train(
        live,
        workers,
        checkpoint_every_steps=None,
        on_step=on_step,
        on_rung=lambda _: None,
        on_milestone=on_milestone,
        save_checkpoint=lambda: None,
    )
