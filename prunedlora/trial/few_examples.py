"""An adapter on the first validation examples, without answers: what looks at a training and screenings of cuts ask
for. It leaves the training as it was, whatever comes of it."""

import math

from prunedlora.config.trial import TrialConfig
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.memory import TooLittleMemoryError
from prunedlora.training.model import release_memory
from prunedlora.training.trial import Trial
from prunedlora.trial.assets import Assets
from prunedlora.trial.candidates import validation_examples
from prunedlora.trial.screening import Screened


def evaluated_on_few(
    live: Trial, config: TrialConfig, assets: Assets, workers: Workers, num_examples: int
) -> Outcomes | str:
    """The model's outcomes on the first `num_examples`, as it stands; or why there are none, on all workers alike: its
    loss there is not finite, or memory does not suffice for a single one."""
    examples = validation_examples(config, assets)[:num_examples]
    halvings = live.fit.evaluation_halvings
    try:
        outcomes = evaluate(
            live.model,
            assets.task,
            examples,
            batch_size=config.evaluation.batch_size,
            dtype=live.dtype,
            workers=workers,
            fit=live.fit,
            generate=False,
        )
    except TooLittleMemoryError as error:
        reason = str(error)
    else:
        loss = Screened.of("", 0, outcomes).loss.value
        if math.isfinite(loss):
            return outcomes
        reason = f"validation loss on {len(examples)} examples is {loss}"
    forget_evaluation(live, halvings, workers)  # out of the handler: the error holds what was made
    return reason


def forget_evaluation(live: Trial, halvings: int, workers: Workers) -> None:
    """After one that came to nothing: later ones are as they were without it. `halvings`: of a batch, as before it."""
    live.fit.evaluation_halvings = halvings
    release_memory(workers.device)
