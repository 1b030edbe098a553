"""What the dry run says of the search, and the end of a sweep of its repeats."""

from collections.abc import Callable

from prunedlora.config.sweep import SweepConfig
from prunedlora.sweep.outcome import repeat_lines
from prunedlora.sweep.plan import search_lines

Make = Callable[..., SweepConfig]


def test_samplers_that_do_not_learn_from_failures_are_named(make_sweep: Make) -> None:
    for sampler in ("gp", "nsga2"):
        (line,) = search_lines(make_sweep(sampler=sampler), None)
        assert line.startswith(f"Sampler: {sampler} does not learn from failed or stopped trials")
    assert search_lines(make_sweep(sampler="tpe"), None) == search_lines(make_sweep(sampler="random"), None) == []
    alone = make_sweep(sampler="gp", num_trials=0, space={}, baselines=[{"adapter.initial_rank": 2}])
    assert search_lines(alone, None) == []


def test_a_space_that_is_tried_whole_is_named(make_sweep: Make) -> None:
    config = make_sweep(num_trials=6)
    assert search_lines(config, 7) == []
    assert search_lines(config, 6) == ["Space: it has 6 configurations: all are tried"]
    assert search_lines(config, 1)[0].startswith("Space: it has 1 configuration, which is tried; num_trials 6")
    assert search_lines(config, 3) == ["Space: it has 3 configurations: all are tried; num_trials 6 asks for more"]


def test_repeats_are_told() -> None:
    assert repeat_lines(0) == []
    assert repeat_lines(1) == ["Repeats: 1 ask was for a configuration that had been tried, and counted as no trial."]
    assert repeat_lines(20)[0].startswith("Repeats: 20 asks were for")
