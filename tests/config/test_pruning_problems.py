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
            "rung 1 of the ladder (mean_rank 8) removes nothing: the adapter has rank 8; take less",
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


RUNGS = {"kept": [0.5]}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {"name": "laddder", "rungs": RUNGS, "trunk": 0.3},
            "schedule: rungs is a ladder's, but the name is 'laddder': write name: ladder, or remove rungs, trunk",
        ),
        ({"rungs": RUNGS}, "schedule: rungs is a ladder's, but there is no name: write name: ladder, or remove rungs"),
        (
            {"name": "cubic", "begin": 0.1, "end": 0.5, "every_steps": 1, "rungs": RUNGS},
            "schedule: rungs is a ladder's, but the name is 'cubic': write name: ladder, or remove rungs",
        ),
        ({"name": "laddder", "begin": 0.1, "every_steps": 1}, "schedule.name: unknown schedule 'laddder'; known: "),
        ({"name": "laddder", "begin": 0.1, "every_steps": 1}, "one_shot, ladder"),
        (
            {"name": "ladder", "rungs": [0.5, 0.2]},
            "schedule.rungs: sizes are in a unit: write {kept: [0.5, 0.2]}, {parameters: […]} or {mean_rank: […]}, not",
        ),
        ({"name": "ladder", "rungs": [4, 2]}, "write {mean_rank: [4, 2]}, {kept: […]} or {parameters: […]}"),
        ({"name": "ladder", "rungs": 0.5}, "write {kept: […]}, {parameters: […]} or {mean_rank: […]}, not 0.5"),
        (
            {"name": "ladder", "rungs": RUNGS, "begin": 0.1, "end": 0.5},
            "begin and end have no effect on schedule 'ladder', whose trunk and rungs say when; remove them",
        ),
        (
            {"name": "ladder", "rungs": RUNGS, "end": 0.5},
            "end has no effect on schedule 'ladder', whose trunk and rungs say when; remove it",
        ),
    ],
)
def test_how_a_ladder_is_written(tree: dict[str, Any], schedule: dict[str, Any], message: str) -> None:
    on_ladder(tree, RUNGS)
    put(tree, "trial.pruning.schedule", schedule)
    found = error_of(tree)
    assert message in found
    assert "did you mean 'rungs'" not in found


def test_how_sizes_of_cuts_are_written(tree: dict[str, Any]) -> None:
    put(tree, "trial.cuts", {"sizes": [0.5]})
    assert "cuts.sizes: sizes are in a unit: write {kept: [0.5]}, {parameters: […]} or" in error_of(tree)


def test_a_field_of_no_schedule_is_not_suggested_itself(tree: dict[str, Any]) -> None:
    on_ladder(tree, RUNGS)
    put(tree, "trial.pruning.schedule.trunkk", 0.3)
    assert "schedule.trunkk: unknown field; did you mean 'trunk'?" in error_of(tree)
