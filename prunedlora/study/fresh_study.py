"""A study of trials that are kept elsewhere: made for one ask, so that nothing of an ask stays behind in it."""

from collections.abc import Container, Iterable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from prunedlora.study.rebuild import Direction


class KeptTrials(optuna.storages.InMemoryStorage):
    """Memory in which trials that lie elsewhere stand before those that are asked for."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._kept = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna has it; kept trials are never copied."""
        kept = [] if states == (TrialState.WAITING,) else self._kept
        found = super().get_all_trials(study_id, deepcopy, states)
        return [*(trial for trial in kept if states is None or trial.state in states), *found]


def fresh_study(
    trials: Iterable[FrozenTrial], directions: Sequence[Direction], sampler: optuna.samplers.BaseSampler
) -> optuna.Study:
    """A study that has these trials. It numbers them from 1 on, since samplers sort and look up by number; the trial
    that is asked for is number 0."""
    kept = list(trials)
    for number, trial in enumerate(kept, start=1):
        trial.number = number
    return optuna.create_study(storage=KeptTrials(kept), directions=directions, sampler=sampler)
