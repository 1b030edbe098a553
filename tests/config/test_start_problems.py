"""An adapter that exists before a first step: evaluated as it is, cut, laddered down; what has no effect is refused."""

from copy import deepcopy
from typing import Any

import pytest

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from tests.config.refused import error_of, put

CUTS = {"sizes": {"mean_rank": [2]}}
LADDER = {"basis": "svd", "schedule": {"name": "ladder", "rungs": {"kept": [0.5]}, "trunk": 0.0}}


@pytest.fixture
def existing(tree: dict[str, Any]) -> dict[str, Any]:
    """A sweep that begins with an adapter that exists."""
    tree["trial"]["adapter"] = {"method": "lora", "start_from": "a/b"}
    tree["trial"]["pruning"] = None
    return tree


@pytest.fixture
def untrained(existing: dict[str, Any]) -> dict[str, Any]:
    existing["trial"] |= {"cuts": CUTS, "training": {"num_steps": 0, "batch_size": 4}}
    return existing


@pytest.fixture
def laddered(existing: dict[str, Any]) -> dict[str, Any]:
    existing["trial"]["adapter"]["method"] = "prunedlora"
    existing["trial"]["pruning"] = deepcopy(LADDER)
    return existing


def again(tree: dict[str, Any]) -> TrialConfig:
    """What its resolved form, as a record has it, is read as."""
    trial = parse_sweep(tree, "x.yaml").trial
    assert TrialConfig.model_validate(trial.model_dump(mode="json")) == trial
    return trial


FRESH = {"initial_rank": 4, "alpha": 4}


def test_a_ladder_without_a_trunk_is_for_an_adapter_that_exists(laddered: dict[str, Any]) -> None:
    assert again(laddered).pruning is not None
    laddered["trial"]["adapter"] = FRESH
    assert "trunk 0 begins a ladder with an adapter as it is: give adapter.start_from, or a trunk" in error_of(laddered)


def test_no_steps_are_for_an_adapter_that_exists(untrained: dict[str, Any]) -> None:
    for adapter in (FRESH | {"method": "lora"}, {"method": "lora", "alpha": 2, "rank_pattern_from": "a/b"}):
        untrained["trial"]["adapter"] = adapter
        assert "training.num_steps 0 trains nothing: give adapter.start_from" in error_of(untrained)
    untrained["trial"] |= {"adapter": None, "full": {}, "cuts": None}
    assert "training.num_steps 0 trains nothing: give adapter.start_from" in error_of(untrained)


def test_no_steps_beside_cuts_or_method_svd(untrained: dict[str, Any]) -> None:
    assert again(untrained).training.num_steps == 0
    put(untrained, "trial.cuts", None)
    assert "num_steps 0 makes nothing of adapter.start_from without cuts: give cuts, or steps" in error_of(untrained)
    untrained["trial"] |= {"svd": {"ranks": [2, 1]}, "adapter": {"method": "svd", "start_from": "a/b"}}
    assert again(untrained).free_cuts is not None


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("training.num_steps", -1, "trial.training.num_steps: "),
        ("evaluation.milestones", [0.5], "evaluation.milestones has no effect where training.num_steps is 0; remove"),
        ("adapter.dropout", 0.1, "adapter.dropout 0.1 has no effect where training.num_steps is 0; remove it"),
        ("cuts", CUTS | {"at": "start"}, "cuts.at 'start' is the end where training.num_steps is 0; set it to end"),
        ("cuts", CUTS | {"at": "every_rung"}, "cuts.at 'every_rung' needs pruning.schedule 'ladder'"),
        ("optimizer.warmup", 0.2, "optimizer.warmup 0.2 has no effect where training.num_steps is 0; remove it"),
        ("optimizer.decay", "cosine", "optimizer.decay cosine has no effect where training.num_steps is 0; remove it"),
        ("seed", 3, "seed 3 has no effect where training.num_steps is 0 and no basis whitened is calibrated; remove"),
        ("droplora", {}, "num_steps 0 leaves method 'droplora', which acts while it trains, without effect; take lora"),
        ("pruning", LADDER, "num_steps 0 leaves method 'prunedlora', which acts while it trains, without effect"),
    ],
)
def test_what_has_no_effect_without_steps(untrained: dict[str, Any], path: str, value: Any, said: str) -> None:
    if path in ("droplora", "pruning"):
        untrained["trial"]["adapter"]["method"] = {"pruning": "prunedlora"}.get(path, path)
    put(untrained, f"trial.{path}", value)
    assert said in error_of(untrained)


def test_the_seed_orders_what_a_basis_is_calibrated_on(untrained: dict[str, Any]) -> None:
    put(untrained, "trial.cuts.bases", ["whitened"])
    keys = set()
    for seed in (0, 3):
        put(untrained, "trial.seed", seed)
        keys.add(trial_key(again(untrained)))
    assert len(keys) == 2


def test_rates_without_steps_make_no_other_trial(untrained: dict[str, Any]) -> None:
    def keys() -> int:
        found = set()
        for rate in (1e-3, 1e-2):
            put(untrained, "trial.optimizer.learning_rate", rate)
            found.add(trial_key(again(untrained)))
        return len(found)

    assert keys() == 1
    put(untrained, "trial.training.num_steps", 5)
    assert keys() == 2


@pytest.mark.parametrize(
    ("pruning", "who"),
    [
        ({"basis": "whitened"}, "basis 'whitened'"),
        ({"basis": "raw"}, "criterion 'gradient'"),
        (
            {"basis": "raw", "criterion": "magnitude", "recovery_strength": 0.5},
            "'magnitude' with recovery_strength 0.5",
        ),
    ],
)
def test_a_removal_at_step_0_knows_no_statistics(laddered: dict[str, Any], pruning: dict[str, Any], who: str) -> None:
    put(laddered, "trial.pruning", deepcopy(LADDER) | pruning)
    assert f"{who} has no statistics yet: take basis svd, or a removal in events (cubic)" in error_of(laddered)
    put(laddered, "trial.pruning.schedule.removal", "cubic")
    again(laddered)
    put(laddered, "trial.pruning", LADDER | {"basis": "raw", "criterion": "magnitude"})
    again(laddered)


def test_cuts_of_the_start(laddered: dict[str, Any]) -> None:
    put(laddered, "trial.cuts", CUTS | {"at": "start"})
    assert again(laddered).cuts is not None
    put(laddered, "trial.pruning.schedule", LADDER["schedule"] | {"trunk": 0.1})  # type: ignore[operator]
    assert "cuts.at 'start' needs pruning.schedule 'ladder' with trunk 0; set it to end" in error_of(laddered)
    put(laddered, "trial.cuts.at", "every_rung")
    again(laddered)


def test_labels_are_of_classes_and_each_once(tree: dict[str, Any]) -> None:
    put(tree, "trial.data.labels", ["yes", "no"])
    assert again(tree).data.labels == ["yes", "no"]
    put(tree, "trial.data.labels", ["yes", "no", "yes"])
    assert "labels names a class twice: 'yes'" in error_of(tree)
    put(tree, "trial.data.labels", ["yes"])
    assert "trial.data.labels: " in error_of(tree)
    put(tree, "trial.data", tree["trial"]["data"] | {"task": "generation", "labels": ["yes", "no"]})
    put(tree, "trial.evaluation.metric", "loss")
    put(tree, "objectives", {"loss": "minimize", "max_rank": "minimize"})
    assert "labels has no effect on task 'generation', which has no classes; remove it" in error_of(tree)
