"""Baselines of the shipped sweeps are no straw men: scaled as what is searched, and tuned as widely."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from prunedlora.config.load import load_sweep
from prunedlora.config.space import LogUniform

RATE = "optimizer.learning_rate"
WIDEST = 4.5
"""Between two learning rates that are tried: the search draws about as few per rank."""


@pytest.mark.parametrize("name", ["gsm8k_llama3_8b", "glue_sst2", "smollm2_chain_sum", "smollm2_chain_sum_ladder"])
def test_one_scaling_for_all_ranks_and_the_same_range_of_rates(name: str) -> None:
    config = load_sweep(Path(f"search_spaces/{name}.yaml"))
    adapter, searched = config.trial.adapter, config.space[RATE]
    assert adapter is not None
    assert isinstance(searched, LogUniform)
    low, high = searched.log_uniform
    assert adapter.use_rslora
    assert not config.space.keys() & {"adapter.alpha", "adapter.use_rslora"}
    assert low <= config.trial.optimizer.learning_rate <= high
    rates = defaultdict(list)
    for trial in config.baseline_trials():
        assert trial.adapter is not None
        assert (trial.adapter.alpha, trial.adapter.use_rslora) == (adapter.alpha, True)
        rates[trial.adapter.initial_rank].append(trial.optimizer.learning_rate)
    for tried in rates.values():
        assert (min(tried), max(tried)) == (low, high)
        assert all(larger / smaller <= WIDEST for smaller, larger in pairwise(sorted(tried)))


def test_the_scalings_of_the_large_sweep_are_those_of_practice() -> None:
    """alpha / sqrt(rank) within a factor of 4 over all ranks, around 1: it was 5.7 to 22.6."""
    config = load_sweep(Path("search_spaces/gsm8k_llama3_8b.yaml"))
    adapter = config.trial.adapter
    assert adapter is not None
    ranks = [
        *config.space["adapter.initial_rank"].corners(),
        *(t.adapter.initial_rank for t in config.baseline_trials() if t.adapter),
    ]
    scalings = [adapter.alpha / rank**0.5 for rank in ranks]
    assert 0.5 <= min(scalings) <= max(scalings) <= 4 * min(scalings) <= 4
