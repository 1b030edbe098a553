from collections.abc import Callable
from typing import Any, get_args

import optuna
import pytest

from prunedlora.config.corners import applies
from prunedlora.config.load import ConfigError
from prunedlora.config.space import Choice
from prunedlora.config.sweep import SamplerName, SweepConfig
from prunedlora.registry import lookup, names
from prunedlora.study.kept_study import propose
from prunedlora.study.listed_configurations import choice_options
from prunedlora.study.rebuild import ask_seed
from prunedlora.study.suggest import suggest

Make = Callable[..., SweepConfig]


@pytest.mark.parametrize("sampler", names("sampler"))
def test_a_seed_decides_the_suggestion(sampler: str, make_sweep: Make) -> None:
    def first(seed: int) -> dict[str, Any]:
        made = lookup("sampler", sampler)(seed=seed, num_concurrent=3)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=made)
        return suggest(study.ask(), make_sweep().space)

    assert first(1) == first(1) != first(2)


def test_an_unknown_sampler_is_refused_with_the_known_ones(make_sweep: Make) -> None:
    known = "'gp', 'nsga2', 'random', 'tpe' or 'tpe-joint'"
    with pytest.raises(ConfigError, match=rf"sampler: Input should be {known} \(got 'annealing'\)"):
        make_sweep(sampler="annealing")


def test_the_samplers_that_a_sweep_may_name_are_the_registered_ones() -> None:
    assert sorted(get_args(SamplerName)) == names("sampler")


def test_suggestions_honour_conditions_and_give_back_the_values_of_the_file(make_sweep: Make) -> None:
    space = make_sweep().space
    seen = []
    for number in range(40):
        values, part = propose(
            [],
            {},
            space=space,
            objectives={"accuracy": "maximize", "adapter_params": "minimize"},
            sampler="random",
            seed=number,
            num_concurrent=1,
        )
        assert set(values) == set(part["params"]) == set(part["distributions"])
        assert all((path in values) == applies(entry, values) for path, entry in space.items())
        assert values["adapter.target_modules"] in ("all-linear", ["query", "value"])
        seen.append(values)
    assert 0 < sum("pruning.schedule.end" in values for values in seen) < len(seen)


def test_choices_that_are_no_scalars_are_text_for_optuna() -> None:
    assert choice_options(Choice(choice=[1, None, "a", False])) == [1, None, "a", False]
    assert choice_options(Choice(choice=["[1]", [1], {"b": 1, "a": 2}])) == ['"[1]"', "[1]", '{"a":2,"b":1}']


def test_seeds_of_asks_differ() -> None:
    assert len({ask_seed(seed, number) for seed in range(10) for number in range(100)}) == 1000
