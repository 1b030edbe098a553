"""NSGA-II whose parents are found from the first generation on, so that no number of trials is too many.

Optuna finds the parents of a generation by those of the one before, and so on down to the first: a sampler that is made
anew for an ask goes down all of them at once, which ends in a RecursionError from some 6,000 trials on.
"""

from collections import defaultdict

import optuna
from optuna.trial import FrozenTrial, TrialState


class GenerationsSampler(optuna.samplers.NSGAIISampler):
    """Optuna's NSGA-II for one ask; it proposes what Optuna's own would, made for this ask alone.

    A generation's parents follow from all trials that are complete by now, those that ended late included, and are not
    kept between asks: a study that lives on and one that is rebuilt have the same.
    """

    def __init__(self, *, seed: int, population_size: int) -> None:
        super().__init__(seed=seed, population_size=population_size)
        self._populations: dict[int, list[FrozenTrial]] | None = None
        self._parents: list[list[FrozenTrial]] = [[]]  # generation 0 has none

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The complete trials of a generation, all generations told apart in one pass."""
        if self._populations is None:
            self._populations = defaultdict(list)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                self._populations[trial.system_attrs.get(self._get_generation_key(), -1)].append(trial)
        return list(self._populations.get(generation, ()))

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """The parents of a generation: the elite of the generation before and its parents."""
        for each in range(len(self._parents), generation + 1):
            self._parents.append(self.select_parent(study, each))
        return self._parents[generation]
