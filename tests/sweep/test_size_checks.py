"""Sizes that the model's layers cannot come to are found before anything starts, and without a model for each."""

from typing import Any

import pytest

from prunedlora.config.fields import with_values
from prunedlora.config.load import parse_sweep
from prunedlora.settings_error import SettingsError
from prunedlora.sweep import preflight as preflight_module
from prunedlora.sweep.preflight import preflight
from tests.tiny import sweep_tree

LADDER = {
    "trial.pruning.schedule": {"name": "ladder", "rungs": {"parameters": [1000, 400]}},
    "trial.pruning.target_sparsity": None,
    "trial.pruning.allocation": "global_per_parameter",
    "trial.pruning.min_rank": 0,
    "trial.evaluation.milestones": [],
    "space": {"optimizer.learning_rate": {"log_uniform": [0.001, 0.01]}},
}
RUNGS = "pruning.schedule.rungs.parameters"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tiny")
    return with_values(sweep_tree(folder, folder / "store"), LADDER)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({f"trial.{RUNGS}": [10**9, 100]}, ""),
        ({"baselines": [{"label": "wide", RUNGS: [10**9]}]}, "baselines[0] (wide): "),
        ({"space": {RUNGS: {"choice": [[1000, 400], [10**9]]}}}, f"space at {RUNGS}=[1000000000]: "),
    ],
)
def test_a_budget_above_the_adapter_is_told_where_it_stands(
    tree: dict[str, Any], values: dict[str, Any], where: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        preflight(parse_sweep(with_values(tree, values), "test"))
    start = f"{where}pruning.schedule.rungs: rung 1 of the ladder (parameters 1000000000) removes nothing: the adapter"
    assert str(caught.value).startswith(start)


def test_a_rank_of_the_space_that_is_too_small_for_the_rungs_or_the_cuts(tree: dict[str, Any]) -> None:
    ranks = {"space": {"adapter.initial_rank": {"int": [1, 16]}}}
    with pytest.raises(SettingsError, match=r"^space at adapter\.initial_rank=1: pruning\.schedule\.rungs: rung 1 "):
        preflight(parse_sweep(with_values(tree, ranks), "test"))
    values = {"cuts": {"sizes": {"parameters": [1000]}}, "pruning": None, "adapter.method": "lora"}
    lora = with_values(tree, ranks | {f"trial.{path}": value for path, value in values.items()})
    with pytest.raises(SettingsError, match=r"^space at adapter\.initial_rank=1: cuts by allocation 'global_per_p"):
        preflight(parse_sweep(lora, "test"))


def test_the_adapter_is_put_on_the_model_once_for_each_placement(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else the space chooses; the sizes of all its corners are looked at."""
    attached, checked = [], []
    attach, check = preflight_module.check_attached, preflight_module.check_sizes
    monkeypatch.setattr(preflight_module, "check_attached", lambda *a: attached.append(a[0]) or attach(*a))
    monkeypatch.setattr(preflight_module, "check_sizes", lambda *a: checked.append(a[0]) or check(*a))
    space = {
        "adapter.target_modules": {"choice": ["all-linear", ["query", "value"]]},
        "adapter.initial_rank": {"int": [12, 16]},
        "pruning.schedule.trunk": {"uniform": [0.3, 0.7]},
        "pruning.allocation": {"choice": ["global", "global_per_parameter"]},
        RUNGS: {"choice": [[1000, 400], [900]]},
    }
    preflight(parse_sweep(with_values(tree, {"space": space}), "test"))
    assert len(attached) == 2
    sizes = {(t.adapter.initial_rank, t.pruning.allocation, tuple(t.pruning.ladder.rungs.sizes)) for t in checked}
    assert len(sizes) == 8 + 1
