"""What the sections of the methods refuse by themselves, and what an unset pruning setting becomes."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trial.pruning.schedule.begin", 0.7, "begin 0.7 must lie before end 0.6"),
        ("trial.pruning.schedule.name", "one_shot", "end has no effect on schedule 'one_shot'; remove it"),
        ("trial.pruning.schedule.end", None, "schedule 'cubic' needs end"),
        ("trial.pruning.criterion", "grdient", "unknown criterion 'grdient'; known: "),
        ("trial.pruning.curvature", "x", "unknown curvature 'x'; known: batch, token"),
        ("trial.pruning.allocation", "x", "unknown allocation 'x'; known: global, global_per_parameter, "),
        ("trial.pruning.schedule.name", "x", "unknown schedule 'x'; known: cosine, cubic, linear, one_shot"),
        ("trial.pruning.target_rank", 4, "give exactly one of target_sparsity and target_rank"),
    ],
)
def test_a_pruning_setting_that_cannot_be_is_refused(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


ADALORA = {"target_rank": 4, "begin": 0.1, "end": 0.5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"adapter.method": "adalora", "adalora": ADALORA | {"end": 0.1}},
            "trial.adalora: begin 0.1 must lie before end 0.1",
        ),
        ({"adapter.method": "svd", "svd": {"ranks": [2, 4]}}, "trial.svd: ranks must fall: [2, 4]"),
        (
            {"adapter.method": "droplora", "droplora": {"probability": 1.0}},
            "trial.droplora.probability: Input should be less than 1 (got 1.0)",
        ),
        (
            {"adapter.method": "l1ra", "l1ra": {"gate_penalty": 0}},
            "trial.l1ra.gate_penalty: Input should be greater than 0 (got 0)",
        ),
    ],
)
def test_a_setting_of_another_method_that_cannot_be_is_refused(
    tree: dict[str, Any], values: dict[str, Any], message: str
) -> None:
    for path, value in values.items():
        put(tree, f"trial.{path}", value)
    assert message in error_of(tree)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"criterion": "magnitude", "curvature": "token"},
            "curvature has no effect with criterion 'magnitude' without",
        ),
        (
            {"criterion": "magnitude", "damping": 0.1},
            "damping has no effect with criterion 'magnitude' without recovery",
        ),
        ({"criterion": "magnitude", "recovery_side": "B"}, "recovery_side has no effect with criterion 'magnitude' wi"),
        ({"criterion": "magnitude", "ema_decay": 0.5}, "ema_decay has no effect with criterion 'magnitude' without re"),
        (
            {"criterion": "activation_obs", "curvature": "token"},
            "curvature has no effect with criterion 'activation_obs'",
        ),
        (
            {"criterion": "activation_obs", "recovery_side": "A"},
            "recovery_side 'A' does not go with criterion 'activati",
        ),
        ({"basis": "svd", "criterion": "gradient"}, "criterion has no effect with basis 'svd'; remove it"),
        ({"basis": "svd", "ema_decay": 0.5}, "ema_decay has no effect with basis 'svd'; remove it"),
        ({"basis": "whitened", "recovery_strength": 1.0}, "recovery_strength has no effect with basis 'whitened'"),
        ({"moments": "reset"}, "moments has no effect with criterion 'gradient'; remove it"),
        ({"criterion": "taylor", "gradient_cap": 0.1}, "gradient_cap goes with criterion 'gradient' on one side, not"),
        (
            {"recovery_side": "both", "gradient_cap": 0.1},
            "gradient_cap goes with criterion 'gradient' on one side, not",
        ),
        ({"round_to": 3}, "pruning: round_to 3 does not divide the initial rank 8"),
        ({"round_to": 1}, "trial.pruning.round_to"),
    ],
)
def test_a_pruning_setting_without_effect(tree: dict[str, Any], values: dict[str, Any], message: str) -> None:
    tree["trial"]["pruning"] |= values
    assert message in error_of(tree)


@pytest.mark.parametrize(
    ("values", "resolved"),
    [
        ({}, ("gradient", "token", 0.95, 0.01, 0.0, "B", None)),
        ({"criterion": "magnitude"}, ("magnitude", None, None, None, 0.0, None, None)),
        ({"criterion": "magnitude", "recovery_strength": 0.5}, ("magnitude", "token", 0.95, 0.01, 0.5, "B", None)),
        ({"criterion": "taylor"}, ("taylor", None, 0.95, None, 0.0, None, None)),
        ({"criterion": "activation_obs"}, ("activation_obs", None, 0.95, 0.01, 0.0, "B", None)),
        ({"basis": "svd"}, (None, None, None, None, None, None, "mapped")),
        ({"basis": "whitened"}, (None, None, 0.95, 0.01, None, None, "mapped")),
    ],
)
def test_unset_pruning_settings_get_a_value_where_they_have_an_effect(
    tree: dict[str, Any], values: dict[str, Any], resolved: tuple[Any, ...]
) -> None:
    """In the file, and when a space or a baseline chooses the criterion; the record has them all."""
    fields = ["criterion", "curvature", "ema_decay", "damping", "recovery_strength", "recovery_side", "moments"]
    base = parse_sweep(tree, "x.yaml").trial
    by_space = trial_with(base, {f"pruning.{name}": value for name, value in values.items()})
    tree["trial"]["pruning"] |= values
    for trial in (parse_sweep(tree, "x.yaml").trial, by_space):
        assert trial.pruning is not None
        assert tuple(getattr(trial.pruning, name) for name in fields) == resolved
        assert TrialConfig.model_validate(trial.model_dump(mode="json")) == trial
