"""NSGA-II's parents, generation by generation."""

import time

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from prunedlora.study.generations import GenerationsSampler
from prunedlora.study.rebuild import quiet
from prunedlora.study.samplers import POPULATION_SIZE, nsga2

X = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


def trials(number: int, owner: str, population: int = POPULATION_SIZE) -> list[FrozenTrial]:
    """Complete trials in generations of a population and a late one each, as `owner`'s sampler marks them."""
    draws = np.random.default_rng(0).uniform(size=(number, 4))
    return [
        create_trial(
            state=TrialState.COMPLETE,
            params={"x": float(row[0]), "y": float(row[1])},
            distributions=dict(X),
            values=[float(row[2]), float(row[3])],
            system_attrs={f"{owner}:generation": i // (population + 1)},
        )
        for i, row in enumerate(draws)
    ]


def asked(sampler: optuna.samplers.BaseSampler, given: list[FrozenTrial]) -> dict[str, float]:
    with quiet():
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.add_trials(given)
        trial = study.ask()
        return {name: trial.suggest_float(name, 0.0, 1.0) for name in X}


@pytest.mark.parametrize("number", [10, 17, 34, 200])
def test_a_proposal_is_that_of_optunas_own_sampler(number: int) -> None:
    for seed in range(5):
        own = optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION_SIZE)
        mine = asked(nsga2(seed, 3), trials(number, "GenerationsSampler"))
        assert mine == asked(own, trials(number, "NSGAIISampler"))


def test_generations_without_end() -> None:
    """More generations than Python's recursion limit, in a study that is all new, as after a restart."""
    number = 3300
    own = optuna.samplers.NSGAIISampler(seed=0, population_size=2)
    with pytest.raises(RecursionError):
        asked(own, trials(number, "NSGAIISampler", population=2))
    mine = GenerationsSampler(seed=0, population_size=2)
    assert asked(mine, trials(number, "GenerationsSampler", population=2)).keys() == X.keys()


def test_seven_thousand_trials() -> None:
    given = trials(7000, "GenerationsSampler")
    began = time.process_time()
    first = asked(nsga2(0, 3), given)
    print(f"an ask of a study rebuilt from {len(given)} trials: {time.process_time() - began:.2f} s of CPU")
    assert asked(nsga2(0, 3), given) == first
