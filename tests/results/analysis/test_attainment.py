"""Attainment over seeds: against counting, and only over what the seeds have in common."""

import math

import pytest

from prunedlora.results.analysis.attainment import attainment
from prunedlora.results.analysis.summary import summarize


@pytest.fixture
def trained(record, candidate):
    """trained(rank, seed, accuracy): a trial of one of the configurations"""

    def make(rank, seed, accuracy, **changes):
        config = {"adapter": {"method": "lora", "initial_rank": rank}, "seed": seed}
        return record(f"r{rank}s{seed}", candidate(accuracy, params=100 * rank), config=config, **changes)

    return make


def test_levels_are_what_so_many_seeds_attain(trained, fill):
    accuracies = {1: [0.5, 0.6, 0.7, 0.4], 2: [0.8, 0.75, 0.7, 0.9], 4: [0.85, 0.7, 0.95, 0.9]}
    records = [trained(rank, seed, value) for rank, values in accuracies.items() for seed, value in enumerate(values)]
    found = attainment(summarize(fill(*records)))
    assert (found.seeds, found.num_configurations, found.few) == ((0, 1, 2, 3), 3, False)
    for level in found.levels:
        # The best quality that so many of the fronts reach at this size, by sorting.
        place = math.ceil(level.percent / 100 * 4) - 1
        expected, best = {}, -1.0
        for rank in accuracies:
            reached = sorted(
                (max(accuracies[r][seed] for r in accuracies if r <= rank) for seed in range(4)), reverse=True
            )
            if reached[place] > best:
                best = expected[100.0 * rank] = reached[place]
        assert dict(zip(level.sizes, level.qualities, strict=True)) == expected
    assert [level.percent for level in found.levels] == [25, 50, 75]


def test_only_configurations_with_every_seed_count(trained, fill, failed):
    records = [
        trained(1, 0, 0.5),
        trained(1, 1, 0.6),
        trained(2, 0, 0.7),
        trained(2, 1, 0.8),
        trained(4, 0, 0.99),  # one seed: it would lift one front only
        trained(8, 1, 0.9),
        trained(8, 2, 0.9),
    ]
    found = attainment(summarize(fill(*records, failed("bad"))))
    assert (found.seeds, found.num_configurations, found.few) == ((0, 1), 2, True)
    assert {level.percent: level.qualities for level in found.levels} == {
        25: (0.6, 0.8),
        50: (0.6, 0.8),
        75: (0.5, 0.7),
    }


def test_a_loss_is_attained_from_above(trained, fill):
    records = [trained(rank, seed, 0.1 * rank + 0.01 * seed) for rank in (1, 2) for seed in (0, 1)]
    objectives = {"loss": "minimize", "adapter_params": "minimize"}
    found = attainment(summarize(fill(*records, objectives=objectives)))
    assert found.levels[0].qualities == pytest.approx((0.89, 0.79))
    assert found.levels[2].qualities == pytest.approx((0.9, 0.8))


def test_without_repeated_trainings_there_is_none(trained, fill, record):
    assert attainment(summarize(fill(trained(1, 0, 0.5), trained(2, 1, 0.5), record("k")))) is None
