"""Samplers by name: each makes a fresh Optuna sampler for one ask.

A sampler lives for a single ask and is seeded for it, so none may rely on what it remembers between asks: all it knows
is the study (optuna.org, samplers).
"""

import warnings
from typing import Protocol

import optuna

from prunedlora.registry import register
from prunedlora.study.generations import GenerationsSampler

NUM_STARTUP_TRIALS = 5
"""Random asks before TPE learns from them; half of Optuna's, since sweeps of fine-tuning runs are short."""
POPULATION_SIZE = 16
NUM_STARTUP_RUNS = {
    "gp": NUM_STARTUP_TRIALS,
    "nsga2": POPULATION_SIZE,
    "tpe": NUM_STARTUP_TRIALS,
    "tpe-joint": NUM_STARTUP_TRIALS,
}
"""Runs that must have been told before a sampler's own suggestions are taken; those without learn nothing."""
LEARN_FROM_COMPLETED_ONLY = ("gp", "nsga2")
"""Samplers that see neither failed nor stopped trials. No values are invented for them, to be learnt as if true."""


class SamplerFactory(Protocol):
    def __call__(self, seed: int, num_concurrent: int) -> optuna.samplers.BaseSampler:
        """A sampler for one ask; `num_concurrent` trials may be in flight at once, this one included."""


@register("sampler", "tpe")
def tpe(seed: int, num_concurrent: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimator, one parameter at a time.

    Optuna itself takes the independent form for several objectives, and it needs nothing special for conditional
    parameters. With trials in flight it keeps away from them (constant liar).
    """
    return _tpe(seed, num_concurrent, joint=False)


@register("sampler", "tpe-joint")
def tpe_joint(seed: int, num_concurrent: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimator of all parameters that apply together at once: for those that hang together, as
    a learning rate and a rank may. Conditional ones are modelled group by group."""
    return _tpe(seed, num_concurrent, joint=True)


def _tpe(seed: int, num_concurrent: int, *, joint: bool) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=NUM_STARTUP_TRIALS,
            multivariate=joint,
            group=joint,
            constant_liar=num_concurrent > 1,
        )


@register("sampler", "nsga2")
def nsga2(seed: int, num_concurrent: int) -> optuna.samplers.BaseSampler:
    """Genetic search; populations of 16, since Optuna's 50 would spend most sweeps on the first, random one."""
    return GenerationsSampler(seed=seed, population_size=POPULATION_SIZE)


@register("sampler", "gp")
def gp(seed: int, num_concurrent: int) -> optuna.samplers.BaseSampler:
    """Gaussian process, expected hypervolume improvement; conditional parameters are drawn at random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=NUM_STARTUP_TRIALS, warn_independent_sampling=False
        )


@register("sampler", "random")
def random(seed: int, num_concurrent: int) -> optuna.samplers.BaseSampler:
    """Independent uniform draws."""
    return optuna.samplers.RandomSampler(seed=seed)
