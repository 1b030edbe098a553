"""What a search begins with: priors of the space and configurations that are known to be good."""

from typing import Any

import pytest

from prunedlora.config.given import given_first
from prunedlora.config.load import ConfigError, parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.sweep_problems import suggestion_problems
from tests.inventions import sweep_tree

RATE, RANK, MODULES = "optimizer.learning_rate", "adapter.initial_rank", "adapter.target_modules"
SPACE = {
    RATE: {"log_uniform": [1e-4, 1e-2], "prior": 2e-3},
    RANK: {"choice": [4, 8], "prior": 8},
    MODULES: {"choice": ["all-linear", ["query"]]},
    "pruning.schedule.name": {"choice": ["cubic", "one_shot"]},
    "pruning.schedule.end": {"uniform": [0.5, 0.7], "when": {"pruning.schedule.name": ["cubic"]}},
}


def sweep(tmp_path: Any, **changes: Any) -> SweepConfig:
    return parse_sweep(sweep_tree(tmp_path, **{"space": SPACE} | changes), "test")


def test_priors_first_then_what_is_known_with_the_priors_of_the_rest(tmp_path: Any) -> None:
    config = sweep(tmp_path, known=[{RANK: 4}, {MODULES: ["query"], RATE: 1e-4}])
    assert given_first(config.space, config.known) == [
        {RATE: 2e-3, RANK: 8},
        {RATE: 2e-3, RANK: 4},
        {RATE: 1e-4, RANK: 8, MODULES: ["query"]},
    ]
    plain = sweep(tmp_path, space={RANK: {"choice": [4, 8]}}, known=[{RANK: 4}])
    assert given_first(plain.space, plain.known) == [{RANK: 4}]


def test_a_prior_of_null_is_one_and_none_is_none_when_a_sweep_is_read_again(tmp_path: Any) -> None:
    entry = {"choice": [None, 0.5]}
    for space, given in (
        ({"optimizer.max_grad_norm": entry | {"prior": None}}, True),
        ({RANK: {"choice": [4]}}, False),
    ):
        config = sweep(tmp_path, space=space)
        again = SweepConfig.model_validate(config.model_dump(mode="json"))
        assert [*map(bool, (given_first(one.space, []) for one in (config, again)))] == [given, given]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {RATE: {"log_uniform": [1e-4, 1e-2], "prior": 1}}}, "prior 1 is outside of [0.0001, 0.01]"),
        ({"space": {RATE: {"uniform": [1e-4, 1e-2], "prior": "x"}}}, "prior 'x' is no number"),
        ({"space": {RANK: {"choice": [4, 8], "prior": 5}}}, "prior 5 is none of [4, 8]"),
        ({"space": {RANK: {"int": [4, 8], "step": 2, "prior": 5}}}, "prior 5 is none of 4 to 8 in steps of 2"),
        ({"space": {RANK: {"log_int": [4, 8], "prior": 5.5}}}, "prior 5.5 is no whole number"),
        (
            {"space": {RANK: {"choice": [4, 8]}, RATE: {"value": 1e-3, "when": {RANK: [4]}, "prior": 1e-3}}},
            "prior 0.001 has no effect on a value, which is not searched; remove it",
        ),
        ({"known": [{"seed": 1}]}, "known[0].seed is no entry of the space; those are optimizer.learning_rate, "),
        ({"known": [{RANK: 4}, {RANK: 16}]}, "known[1].adapter.initial_rank: 16 is none of [4, 8]"),
        ({"known": [{RANK: 4}, {RANK: 4}]}, "known[1] is the same as known[0]; remove it"),
        ({"known": [{}]}, "known[0] names no field; remove it"),
        (
            {"known": [{"pruning.schedule.name": "one_shot", "pruning.schedule.end": 0.6}]},
            "known[0].pruning.schedule.end has no effect beside the others: its `when` does not hold with them",
        ),
        (
            {"known": [{RANK: 4}], "num_trials": 1},
            "num_trials 1 is below the 2 that are tried first: 1 known configuration and the priors",
        ),
    ],
)
def test_bad_input(tmp_path: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep(tmp_path, **changes)
    assert message in str(caught.value)


def test_a_known_configuration_that_is_no_trial(tmp_path: Any) -> None:
    tree = sweep_tree(tmp_path, space={RANK: {"int": [8, 16], "step": 8}})
    tree["trial"]["pruning"] |= {"round_to": 4}
    config = parse_sweep(tree, "test")

    def problems(known: list[dict[str, Any]]) -> list[str]:
        return suggestion_problems(config.trial, config.space, [], "accuracy", has_gpu=True, known=known)

    assert problems([{RANK: 8}]) == []
    assert problems([{RANK: 8}, {RANK: 6}]) == [
        "known[1] at adapter.initial_rank=6: pruning: round_to 4 does not divide the initial rank 6"
    ]
