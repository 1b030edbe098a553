"""Whether the sizes that trials name can be, of layers that are known by rank and width alone: no model is built."""

import json

from prunedlora.config.trial import TrialConfig
from prunedlora.methods.method import Method
from prunedlora.pruning.target import Start
from prunedlora.trial.cut_sizes import checked_start

REACHED = {"schedule", "target_sparsity", "target_rank", "allocation", "min_rank", "round_to"}
"""Fields of pruning that say which sizes are reached."""


def size_settings(trial: TrialConfig) -> str:
    """What of a trial decides whether its sizes can be, of layers that are there: its rank, targets or rungs, cuts."""
    pruning, cuts = trial.pruning, trial.free_cuts
    return json.dumps(
        [
            trial.adapter and trial.adapter.initial_rank,
            pruning and pruning.model_dump(include=REACHED),
            cuts and cuts.model_dump(),
        ]
    )


def check_sizes(trial: TrialConfig, method: Method, attached: Start) -> None:
    """`method`: the trial's. `attached`: the layers of a trial that goes to the same places.

    Raises SettingsError for a target, a rung or a cut that these layers cannot come to.
    """
    rank = None if trial.adapter is None else trial.adapter.initial_rank
    start = attached if rank is None else attached.of_rank(rank)
    method.check_sizes(start)
    if trial.free_cuts is not None:
        checked_start(trial, start)
