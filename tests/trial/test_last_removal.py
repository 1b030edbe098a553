"""When components went last, against the events that trainings really have."""

from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.last_removal import last_removal
from tests.tiny import sweep_tree
from tests.trial.test_interrupted import ALONE, new_store

LADDER = {"name": "ladder", "rungs": {"mean_rank": [4, 2]}}
NO_PRUNING: dict[str, Any] = {"pruning": None}
TRIALS: dict[str, dict[str, Any]] = {
    "schedule": {"training.num_steps": 13},
    "one shot": {"pruning.schedule": {"name": "one_shot", "begin": 0.4, "every_steps": 3}},
    "ladder": {"pruning": {"schedule": LADDER}},
    "ladder in events": {
        "pruning": {"schedule": LADDER | {"removal": "linear", "every_steps": 1}}, "training.num_steps": 20
    },
    "adalora": NO_PRUNING | {
        "adapter.method": "adalora", "adalora": {"target_rank": 3, "begin": 0.2, "end": 0.7, "every_steps": 2}
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(torch.device("cpu"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep_tree(tmp_path_factory.mktemp("tiny"), "unused")


def trial_of(tree: dict[str, Any], values: dict[str, Any]) -> TrialConfig:
    return trial_with(
        parse_sweep(tree, "test").trial, values | {"evaluation.milestones": []} if "pruning" in values else values
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_every_event_of_a_training_is_the_last_removal_where_it_is_seen(
    name: str, tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    trial = trial_of(tree, TRIALS[name])
    store, key = new_store(tree, tmp_path / "store"), trial_key(trial)
    assert execute_trial(
        trial, key, store=store, assets=assets, workers=ALONE, epoch=1, max_attempts=1,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    ) == "completed"  # fmt: skip
    num_steps, lines = trial.training.num_steps, [line for line in store.read_log(key) if line.get("ranks")]
    assert num_steps is not None
    assert lines
    for line in lines:
        # What goes at once when a rung begins has a line without a loss, and goes after the look at that step.
        seen_at = line["step"] + ("loss" not in line)
        assert last_removal(trial, num_steps, seen_at) == line["step"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Events on multiples of 2 from 0.2 to 0.7 of 12 steps, the last on the first step that is not before 0.7.
        ({}, [None, None, None, 4, 4, 6, 6, 8, 9, 9, 9]),
        ({"pruning": {"schedule": LADDER}}, [None] * 6 + [6, 6, 6, 9, 9]),
        ({"pruning": None}, [None] * 11),
        (TRIALS["adalora"], [None, None, None, 4, 4, 6, 6, 8, 8, 8, 8]),
        (NO_PRUNING | {"adapter.method": "l1ra", "l1ra": {"every": 0.25}}, [None, None, 3, 3, 3, 6, 6, 6, 9, 9, 9]),
    ],
)
def test_by_hand(values: dict[str, Any], expected: list[int | None], tree: dict[str, Any]) -> None:
    trial = trial_of(tree, {"adapter.method": "lora"} | values if values == {"pruning": None} else values)
    assert [last_removal(trial, 12, step) for step in range(1, 12)] == expected
