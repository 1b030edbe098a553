"""Results of a comparison of ladders, made up."""

from prunedlora.benchmarks.ladder_results import Measured, Plan, Results
from prunedlora.benchmarks.ladder_variants import Group, Variant
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.record import Figure

ACCURACY = Objectives("accuracy", maximize=True, size="adapter_params")
LOSS = Objectives("loss", maximize=False, size="adapter_params")


def made(name: str, tests: dict[int, dict[int, float]], num_steps: int = 100) -> Measured:
    """A variant that plans these sizes, with the figures of these seeds."""
    variant = Variant(name, (Group(name, (name,), (), num_steps),))
    found = {
        size: {
            seed: {key: Figure(value=value, stderr=None, num_examples=9) for key in ("accuracy", "loss")}
            for seed, value in by_seed.items()
        }
        for size, by_seed in tests.items()
        if by_seed
    }
    return Measured(variant, {name: 0.008}, tuple(sorted(tests, reverse=True)), found)


def results_of(*variants: Measured, plan: Plan, base: float = 0.1) -> Results:
    """Their comparison, along all of their sizes."""
    sizes = [size for each in variants for size in each.planned]
    return Results(plan, {}, {}, {}, base, (min(sizes), max(sizes)), {each.variant.name: each for each in variants})
