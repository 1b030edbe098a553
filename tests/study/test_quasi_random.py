from collections.abc import Callable

import numpy as np
from scipy.stats import qmc

from prunedlora.config.space import Choice, IntRange, LogInt, LogUniform, SpaceEntry, Uniform, Value
from prunedlora.config.sweep import SweepConfig
from prunedlora.registry import names
from prunedlora.study.kept_study import propose
from prunedlora.study.quasi_random import quasi_random
from prunedlora.study.samplers import NUM_STARTUP_RUNS
from prunedlora.study.suggest import fixed

SPACE: dict[str, SpaceEntry] = {
    "a": Choice(choice=[[1], [2], "x", None]),
    "b": Uniform(uniform=(-1.0, 1.0), when={"a": ["x"]}),
    "c": LogUniform(log_uniform=(1e-4, 1e-1)),
    "d": IntRange(int=(10, 40), step=10),
    "e": LogInt(log_int=(1, 64)),
    "f": Value(value=3, when={"d": [10]}),
}


def test_a_power_of_two_of_points_fills_every_part_alike() -> None:
    found = [quasi_random(SPACE, 7, number) for number in range(64)]
    assert found[0].keys() == {"a", "b", "c", "d", "e"}
    for name, parts in {
        "a": [point["a"] for point in found],
        "b": [int((point["b"] + 1) * 4) for point in found],
        "c": [int((np.log10(point["c"]) + 4) * 4 / 3) for point in found],
        "d": [point["d"] for point in found],
    }.items():
        counts = np.unique(parts, return_counts=True)[1]
        assert counts.min() == counts.max(), name
    assert min(point["e"] for point in found) == 1
    assert all(1 <= point["e"] <= 64 for point in found)
    unit = [[(point["b"] + 1) / 2, (np.log10(point["c"]) + 4) / 3] for point in found]
    assert qmc.discrepancy(unit) < qmc.discrepancy(np.random.default_rng(0).random((64, 2))) / 4


def test_points_are_values_of_the_space() -> None:
    for number in range(20):
        values, distributions = fixed(quasi_random(SPACE, 3, number), SPACE)
        assert ("b" in values) == (values["a"] == "x") == ("b" in distributions)
        assert ("f" in values) == (values["d"] == 10)


def test_a_seed_and_a_number_decide_a_point() -> None:
    assert quasi_random(SPACE, 1, 5) == quasi_random(SPACE, 1, 5)
    assert quasi_random(SPACE, 1, 5) != quasi_random(SPACE, 2, 5)
    assert quasi_random(SPACE, 1, 5) != quasi_random(SPACE, 1, 6)


def test_samplers_that_learn_begin_with_them_and_random_does_not(make_sweep: Callable[..., SweepConfig]) -> None:
    config = make_sweep()
    assert set(NUM_STARTUP_RUNS) == set(names("sampler")) - {"random"}

    def first(sampler: str, seed: int) -> dict[str, object]:
        values, _ = propose(
            [],
            {},
            space=config.space,
            objectives=config.objectives,
            sampler=sampler,
            seed=seed,
            num_concurrent=2,
            startup="quasi_random",
        )
        return values

    assert first("tpe", 0) == first("tpe-joint", 0) == first("nsga2", 0) == first("gp", 0) != first("tpe", 1)
    assert first("random", 0) != first("tpe", 0)
