"""A sampler that takes what is given, and asks another for the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState


class GivenSampler(optuna.samplers.BaseSampler):
    """For one ask. The other sampler leaves its notes on the trial (NSGA-II: its generation) as if it had chosen
    all."""

    def __init__(self, given: Mapping[str, Any], rest: optuna.samplers.BaseSampler) -> None:
        """`given`: parameter → its value as Optuna has it; parameters that the trial turns out not to have are left
        out."""
        self._given = given
        self._rest = rest

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._rest.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        chosen = self._rest.sample_relative(study, trial, search_space)
        return {name: self._given.get(name, value) for name, value in chosen.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if param_name in self._given:
            return self._given[param_name]
        return self._rest.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._rest.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._rest.after_trial(study, trial, state, values)
