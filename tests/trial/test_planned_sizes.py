"""What a configuration is planned to leave, before anything is trained, is what a real training leaves."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import METHOD_SECTIONS, TrialConfig, trial_with
from prunedlora.planned_size import PlannedSize
from prunedlora.pruning.target import Start
from prunedlora.registry import lookup, names
from prunedlora.results.record import Candidate
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.planned_sizes import data_key, layers_key, planned_sizes, planner
from tests.tiny import sweep_tree
from tests.trial.test_execute_methods import SECTIONS as EVERY_SECTION

CPU = torch.device("cpu")
SECTIONS: dict[str, dict[str, Any]] = EVERY_SECTION | {
    "pruning": {
        "target_sparsity": 0.5,
        "schedule": {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2},
    },
}
LADDER = {
    "pruning.schedule": {"name": "ladder", "rungs": {"kept": [0.5, 0.2]}, "trunk": 0.4},
    "pruning.target_sparsity": None,
    "pruning.basis": "svd",
    "evaluation.milestones": [],
}
CUTS = {"cuts": {"sizes": {"kept": [0.4, 0.17]}, "screen_examples": None}}
ALLOCATIONS = ("uniform", "global", "global_per_parameter")
TO_A_SLOT = {"pruning.round_to": "served_slot", "adapter.initial_rank": 10, "evaluation.milestones": [0.3, 0.5, 0.75]}
IN_BLOCKS = {"pruning.round_to": 2, "pruning.min_rank": 0, "evaluation.milestones": [0.3, 0.5]}
CASES: dict[str, dict[str, Any]] = {
    **{f"schedule, {name}": {"pruning.allocation": name, "evaluation.milestones": [0.2, 0.5]} for name in ALLOCATIONS},
    **{f"in blocks, {name}": {"pruning.allocation": name, **IN_BLOCKS} for name in ALLOCATIONS},
    **{f"to a slot, {name}": {"pruning.allocation": name, **TO_A_SLOT} for name in ALLOCATIONS},
    **{
        f"a ladder to a slot, {name}": LADDER
        | {"pruning.allocation": name, "pruning.round_to": "served_slot", "adapter.initial_rank": 10}
        | {"pruning.schedule.rungs": {"kept": [0.85, 0.3]}}
        for name in ALLOCATIONS
    },
    **{
        f"a ladder, each rung cut, {name}": LADDER
        | CUTS
        | {"pruning.allocation": name, "pruning.min_rank": 0, "cuts.at": "every_rung", "cuts.allocations": ALLOCATIONS}
        for name in ALLOCATIONS
    },
    "a ladder in branches and events, of parameters": LADDER
    | {
        "pruning.schedule.rungs": {"parameters": [2000, 700, 90]},
        "pruning.schedule.rate": "branch",
        "pruning.schedule.removal": "cubic",
        "pruning.schedule.every_steps": 1,
        "pruning.allocation": "global",
        "pruning.min_rank": 0,
        "training.num_steps": 24,
    },
    "lora, cut": {"adapter.method": "lora", "pruning": None, **CUTS, "cuts.allocations": ALLOCATIONS},
    "l1ra, cut": {
        "adapter.method": "l1ra", "pruning": None, "l1ra": SECTIONS["l1ra"], **CUTS, "cuts.allocations": ALLOCATIONS,
    },
    "adalora, between two allocations": {
        "adapter.method": "adalora", "pruning": None,
        "adalora": SECTIONS["adalora"] | {"every_steps": 2}, "evaluation.milestones": [0.1, 0.45, 0.6],
    },
}  # fmt: skip

PLAIN = ("full", "l1ra", "svd", "to a slot, global")
"""Tried each time; the others for the gate: what competing layers keep has a test without models too."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep_tree(tmp_path_factory.mktemp("tiny"), "unused")


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="module")
def starts(assets: AssetCache, tree: dict[str, Any]) -> Callable[[TrialConfig], Start]:
    """The layers of plain LoRA on the tiny model, at the configuration's rank."""
    skeleton = assets.get(parse_sweep(tree, "test").trial).base.model
    widths = [
        module.in_features + module.out_features for name, module in skeleton.named_modules() if is_body(name, module)
    ]
    return lambda trial: Start.of([trial.adapter.initial_rank] * len(widths), widths)


def is_body(name: str, module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear) and not name.endswith(("pooler.dense", "classifier"))


def of_method(base: TrialConfig, method: str) -> TrialConfig:
    section = lookup("method", method).section
    values: dict[str, Any] = {name: SECTIONS[name] if name == section else None for name in METHOD_SECTIONS}
    if method == "full":
        return trial_with(base, values | {"full": SECTIONS["full"], "adapter": None})
    return trial_with(base, values | {"adapter.method": method, "adapter.use_rslora": method == "rslora"})


def trained(trial: TrialConfig, tree: dict[str, Any], path: Path, assets: AssetCache) -> tuple[Candidate, ...]:
    store = Store(str(path))
    store.create_or_open(tree)
    key = trial_key(trial)
    status = execute_trial(
        trial, key, store=store, assets=assets, workers=Workers(0, 1, CPU), epoch=1, max_attempts=1,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    assert status == "completed"
    record = store.read_record(key)
    assert record is not None
    return record.candidates


def sizes_of(candidate: Candidate) -> dict[str, float]:
    slot = math.inf if candidate.served_slot is None else candidate.served_slot
    return {
        "adapter_params": candidate.adapter_params,
        "adapter_bytes": candidate.adapter_bytes,
        "max_rank": candidate.max_rank,
        "served_slot": slot,
    }


def fits(candidate: Candidate, planned: PlannedSize) -> bool:
    return candidate.progress == pytest.approx(planned.share) and all(
        low <= sizes_of(candidate)[axis] <= high for axis, (low, high) in planned.bounds.items()
    )


def check(planned: tuple[PlannedSize, ...], candidates: tuple[Candidate, ...]) -> None:
    """Every candidate is planned, and of what was trained each is there."""
    assert [one.share for one in planned] == sorted(one.share for one in planned)
    for candidate in candidates:
        assert any(fits(candidate, one) for one in planned), (candidate.name, sizes_of(candidate), planned)
    shares = list(dict.fromkeys(one.share for one in planned))
    assert shares == pytest.approx([candidate.progress for candidate in candidates if candidate.cut is None])
    for share in shares:  # the first of a share is the training's own
        own = next(one for one in planned if one.share == share)
        assert any(fits(candidate, own) for candidate in candidates if candidate.cut is None)


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name in PLAIN else pytest.mark.slow) for name in names("method")]
)
def test_every_method_leaves_what_is_planned(
    method: str, tree: dict[str, Any], assets: AssetCache, starts: Callable[[TrialConfig], Start], tmp_path: Path
) -> None:
    trial = of_method(parse_sweep(tree, "test").trial, method)
    if method == "full":
        assert planned_sizes(trial, Start({}), 12) == ()
        return
    planned = planned_sizes(trial, starts(trial), 12)
    candidates = trained(trial, tree, tmp_path / "store", assets)
    check(planned, candidates)
    if method not in ("l1ra", "adalora"):  # whose components move between layers
        assert [one.bounds["adapter_params"] for one in planned] == [
            (candidate.adapter_params, candidate.adapter_params) for candidate in candidates
        ]


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[] if name in PLAIN else pytest.mark.slow) for name in CASES]
)
def test_every_schedule_and_allocation_leaves_what_is_planned(
    case: str, tree: dict[str, Any], assets: AssetCache, starts: Callable[[TrialConfig], Start], tmp_path: Path
) -> None:
    trial = trial_with(parse_sweep(tree, "test").trial, CASES[case])
    planned = planned_sizes(trial, starts(trial), trial.training.num_steps or 0)
    candidates = trained(trial, tree, tmp_path / "store", assets)
    check(planned, candidates)
    if case.endswith("uniform") and "cut" not in case:
        assert all(low == high for one in planned for low, high in one.bounds.values())


def test_a_plan_is_made_once_for_all_that_it_is_the_same_for(tree: dict[str, Any]) -> None:
    base = parse_sweep(tree, "test").trial
    starts = {layers_key(base): Start.of([6] * 12, [32] * 12)}
    plan = planner(starts, {data_key(base): 80})
    first = plan(base)
    assert [one.share for one in first] == [0.5, 1.0]
    other = trial_with(base, {"optimizer.learning_rate": 2e-3})
    assert plan(other) is first  # a rate changes no size
    assert plan(trial_with(base, {"adapter.initial_rank": 8}))[0].bounds["max_rank"] == (6, 6)
    by_epochs = trial_with(base, {"training.num_steps": None, "training.num_epochs": 2})
    assert [one.share for one in plan(by_epochs)] == [0.5, 1.0]  # 20 steps of 80 examples
    assert plan(trial_with(base, {"adapter.target_modules": ["query"]})) == ()  # nobody has looked at these layers
    rungs = {"pruning.schedule.rungs": {"parameters": [10**9]}, "pruning.allocation": "global"}
    assert plan(trial_with(base, LADDER | rungs)) == ()  # these layers have fewer: the trial says so


def test_a_configuration_that_comes_back_from_a_store_is_the_same(tmp_path: Path) -> None:
    """A store sorts what is given by name."""
    tree = sweep_tree(tmp_path, "unused")["trial"]
    tree["model"]["config_overrides"] = {"b": 0.0, "a": 0.0}
    tree["data"]["train"] |= {"name": "reasoning_gym:family_relationships", "num_examples": 50, "seed": 0}
    tree["data"]["train"]["options"] = {"min_family_size": 3, "max_family_size": 4}
    trial = TrialConfig.model_validate(tree)
    stored = TrialConfig.model_validate(json.loads(json.dumps(trial.model_dump(mode="json"), sort_keys=True)))
    assert (layers_key(stored), data_key(stored)) == (layers_key(trial), data_key(trial))
