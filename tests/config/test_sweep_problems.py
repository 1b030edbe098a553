"""A space is checked before it is searched: its fields, its conditions, its corners and what lies between them."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("space", {"adapter.rank": {"choice": [1]}}, "space.adapter.rank: 'adapter.rank' is no field of a trial"),
        ("space", {"seed": {"choice": [1], "when": {"x.y": [1]}}}, "space.seed.when: 'x.y' is not another entry"),
    ],
)
def test_an_entry_of_no_field_or_an_unknown_condition_is_refused(
    tree: dict[str, Any], path: str, value: Any, message: str
) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


@pytest.mark.parametrize(
    ("parent", "value", "message"),
    [
        ({"choice": ["linear", "cubic"]}, "cubbic", "'pruning.schedule.name' never is 'cubbic'"),
        ({"value": "linear", "when": {"seed": [0]}}, "cubic", "'pruning.schedule.name' never is 'cubic'"),
    ],
)
def test_a_condition_that_never_holds(tree: dict[str, Any], parent: dict[str, Any], value: str, message: str) -> None:
    tree["space"] = {
        "seed": {"choice": [0, 1]},
        "pruning.schedule.name": parent,
        "pruning.damping": {"uniform": [0.1, 0.2], "when": {"pruning.schedule.name": [value]}},
    }
    assert message in error_of(tree)


def test_a_condition_on_numbers(tree: dict[str, Any]) -> None:
    tree["space"]["pruning.damping"] = {"uniform": [0.1, 0.2], "when": {"optimizer.learning_rate": [1e-3]}}
    assert "'optimizer.learning_rate' is continuous; a condition needs a choice, an int or a value" in error_of(tree)
    tree["space"]["seed"] = {"int": [0, 4], "step": 2}
    tree["space"]["pruning.damping"]["when"] = {"seed": [3]}
    assert "'seed' never is 3" in error_of(tree)
    tree["space"]["pruning.damping"]["when"] = {"seed": [4]}
    parse_sweep(tree, "x.yaml")


def test_every_corner_of_the_space_is_checked(tree: dict[str, Any]) -> None:
    tree["space"] = {
        "pruning.schedule.begin": {"uniform": [0.1, 0.5]},
        "pruning.schedule.end": {"uniform": [0.4, 0.8]},
    }
    message = error_of(tree)
    assert "begin 0.5 must lie before end 0.4" in message
    assert "space at pruning.schedule.begin=0.5, pruning.schedule.end=0.4" in message


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"adapter.initial_rank": {"log_uniform": [8, 64]}},
            "space.adapter.initial_rank: takes whole numbers only; write {log_int: [8, 64]}",
        ),
        (
            {"training.num_steps": {"uniform": [10, 20]}},
            "space.training.num_steps: takes whole numbers only; write {int: [10, 20]}",
        ),
        (
            {
                "adapter.initial_rank": {"int": [16, 32]},
                "pruning.round_to": {"choice": [8]},
                "pruning.target_sparsity": {"choice": [0.5]},
            },
            "space at adapter.initial_rank=17, pruning.round_to=8",
        ),
        (
            {
                "adapter.initial_rank": {"int": [8, 32]},
                "pruning.min_rank": {"value": 99, "when": {"adapter.initial_rank": [16]}},
            },
            "pruning.min_rank 99 is above adapter.initial_rank 16",
        ),
        ({"adapter.initial_rank": {"log_int": [0, 8]}}, "log_int.0: Input should be greater than 0 (got 0)"),
        (
            {"evaluation.metric": {"choice": ["accuracy", "loss"]}},
            "space at evaluation.metric=loss: evaluation.metric 'loss' does not record the objective 'accuracy'",
        ),
    ],
)
def test_what_lies_inside_of_the_space_is_checked_too(
    tree: dict[str, Any], space: dict[str, Any], message: str
) -> None:
    tree["space"] = space
    assert message in error_of(tree)


def test_many_problems_are_counted(tree: dict[str, Any]) -> None:
    tree["space"] = {"adapter.initial_rank": {"int": [16, 64]}, "pruning.round_to": {"choice": [8]}}
    message = error_of(tree)
    assert message.startswith("x.yaml: 10 problems")
    assert message.endswith("more in the space)")


def test_conditional_section(tree: dict[str, Any]) -> None:
    """A method without pruning in the space: its section goes, and so do the entries under it."""
    tree["space"] = {
        "adapter.method": {"choice": ["prunedlora", "lora"]},
        "pruning": {"value": None, "when": {"adapter.method": ["lora"]}},
        "pruning.target_sparsity": {"uniform": [0.2, 0.8], "when": {"adapter.method": ["prunedlora"]}},
    }
    assert len(parse_sweep(tree, "x.yaml").space) == 3
    del tree["space"]["pruning.target_sparsity"]["when"]
    assert "give" in error_of(tree) or "missing" in error_of(tree) or "Field required" in error_of(tree)


@pytest.mark.parametrize("where", ["space", "baselines"])
def test_functions_of_one_name_are_not_one_quality(tree: dict[str, Any], where: str) -> None:
    tree["trial"]["evaluation"]["metric"] = "strict.py:score"
    tree["objectives"] = {"score": "maximize", "adapter_params": "minimize"}
    parse_sweep(tree, "x.yaml")
    if where == "space":
        tree["space"] = {"evaluation.metric": {"choice": ["strict.py:score", "lax.py:score"]}}
    else:
        tree["baselines"] = [{"evaluation.metric": "lax.py:score"}]
    message = error_of(tree)
    assert "evaluation.metric 'lax.py:score' is another function than the base's 'strict.py:score', though" in message
