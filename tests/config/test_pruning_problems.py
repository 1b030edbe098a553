"""What no model could make right about a ladder's rungs is refused with the configuration."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of, put


def on_ladder(tree: dict[str, Any], rungs: dict[str, Any], **pruning: Any) -> None:
    """Of initial rank 8; the sizes for the quick tree's pruning section."""
    tree["space"] = {name: entry for name, entry in tree.get("space", {}).items() if "pruning" not in name}
    tree["trial"]["pruning"] = {"schedule": {"name": "ladder", "rungs": rungs}} | pruning
    put(tree, "trial.evaluation.milestones", [])


@pytest.mark.parametrize(
    ("rungs", "pruning", "message"),
    [
        ({"mean_rank": [4, 2.5]}, {}, "rung 2 of the ladder (mean_rank 2.5): a mean_rank of allocation 'uniform' is"),
        (
            {"mean_rank": [8, 4]},
            {},
            "rung 1 of the ladder (mean_rank 8) removes nothing: the adapter starts with rank 8",
        ),
        ({"mean_rank": [9.5]}, {"allocation": "global"}, "(mean_rank 9.5) removes nothing"),
        ({"mean_rank": [4, 1]}, {"min_rank": 2}, "rung 2 of the ladder (mean_rank 1) is below what min_rank 2 keeps"),
        ({"mean_rank": [2, 0.5]}, {"allocation": "global"}, "(mean_rank 0.5) is below what min_rank 1 keeps"),
        ({"kept": [0.5, 0.1]}, {"allocation": "global_per_parameter"}, "take at least kept 0.125"),
        ({"kept": [0.49, 0.45]}, {}, "(kept 0.45) comes out as rung 1 of the ladder (kept 0.49) does"),
        ({"mean_rank": [4]}, {"round_to": 3}, "round_to 3 does not divide the initial rank 8"),
        ({"mean_rank": [4, 2]}, {"round_to": 4}, "min_rank 1 in blocks of 4 keeps; take at least mean_rank 4"),
        ({"mean_rank": [4, 2]}, {"round_to": "served_slot"}, "(mean_rank 2) comes out as rung 1"),
        ({"mean_rank": [4]}, {"round_to": "served_slot", "min_rank": 2}, "allows nothing below the initial rank 8"),
        ({"parameters": [4000]}, {"min_rank": 9}, "pruning.min_rank 9 is above adapter.initial_rank 8"),
    ],
)
def test_rungs_that_cannot_be_are_refused(
    tree: dict[str, Any], rungs: dict[str, Any], pruning: dict[str, Any], message: str
) -> None:
    on_ladder(tree, rungs, **pruning)
    assert message in error_of(tree)


@pytest.mark.parametrize(
    ("rungs", "pruning"),
    [
        ({"mean_rank": [4, 2, 1]}, {}),
        ({"mean_rank": [4, 0.5, 0.25]}, {"allocation": "global", "min_rank": 0}),
        ({"kept": [0.5, 0.25]}, {"allocation": "global_per_parameter"}),
        ({"parameters": [10**9]}, {}),  # what there is, the model says
        ({"mean_rank": [1]}, {"round_to": "served_slot"}),
    ],
)
def test_rungs_that_may_be(tree: dict[str, Any], rungs: dict[str, Any], pruning: dict[str, Any]) -> None:
    on_ladder(tree, rungs, **pruning)
    parse_sweep(tree, "x.yaml")


def test_milestones_beside_a_ladder(tree: dict[str, Any]) -> None:
    on_ladder(tree, {"mean_rank": [4]})
    put(tree, "trial.evaluation.milestones", [0.5])
    assert "evaluation.milestones has no effect on schedule 'ladder'" in error_of(tree)


@pytest.mark.parametrize("rate", ["restart", "continue", "branch"])
def test_a_branch_decays(tree: dict[str, Any], rate: str) -> None:
    """The other rates are as the optimizer's decay says, which may be none."""
    on_ladder(tree, {"mean_rank": [4]})
    put(tree, "trial.pruning.schedule.rate", rate)
    put(tree, "trial.optimizer.decay", "constant")
    if rate == "branch":
        expected = "optimizer.decay 'constant' leaves a ladder's branches without a decay; take linear or cosine"
        assert expected in error_of(tree)
    else:
        parse_sweep(tree, "x.yaml")
