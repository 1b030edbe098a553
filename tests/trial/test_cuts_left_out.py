"""Free cuts that do not come off, are paused among, or are looked at where nothing need be measured twice; in whole
trials on the tiny model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prunedlora.config.cuts import CutsConfig
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.pruning.target import Start
from prunedlora.results.record import Figure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.settings_error import SettingsError
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import NonFiniteError, Verdict
from prunedlora.training.memory import TooLittleMemoryError
from prunedlora.trial import candidates as candidates_module
from prunedlora.trial import execute as execute_module
from prunedlora.trial import few_examples
from prunedlora.trial import possible_cuts as possible_module
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.cut_sizes import checked_start
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.possible_cuts import PossibleCut, possible_cuts
from prunedlora.trial.trial_harness import HarnessFigures
from tests.tiny import sweep_tree

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
LORA = {"adapter.method": "lora", "pruning": None, "evaluation.milestones": [], "training.num_steps": 2}
LADDER = {
    "pruning": {"schedule": {"name": "ladder", "rungs": {"mean_rank": [3]}, "trunk": 0.5}, "allocation": "global"},
    "evaluation.milestones": [],
    "adapter.dropout": 0.1,
    "training.num_steps": 4,
}
CUTS = {"sizes": {"mean_rank": [2, 0.5]}, "bases": ["svd", "whitened"], "calibration_examples": 8}
BROKEN = "-svd-global_per_parameter-mean_rank-0.5"


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep_tree(tmp_path_factory.mktemp("tiny"), "unused")


def trial_of(tree: dict[str, Any], values: dict[str, Any]) -> TrialConfig:
    return trial_with(parse_sweep(tree, "test").trial, values)


def run(
    trial: TrialConfig,
    tree: dict[str, Any],
    path: Path,
    assets: AssetCache,
    report: Callable[[dict[str, Any]], Verdict] = lambda _: Verdict.CONTINUE,
) -> tuple[str, TrialRecord | None]:
    store, key = Store(str(path)), trial_key(trial)
    store.create_or_open(tree)
    status = execute_trial(
        trial, key, store=store, assets=assets, workers=ALONE, epoch=1, max_attempts=9,
        report=report, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    return status, store.read_record(key)


def completed(*given: Any) -> TrialRecord:
    status, record = run(*given)
    assert record is not None
    assert status == "completed", record.failure
    return record


def results(record: TrialRecord) -> list[Any]:
    return [(each.name, each.figures, each.ranks, each.file_sha256) for each in record.candidates]


# --- what does not come off


@pytest.fixture(scope="module")
def uncut(tree: dict[str, Any], assets: AssetCache, tmp_path_factory: pytest.TempPathFactory) -> TrialRecord:
    return completed(trial_of(tree, LADDER), tree, tmp_path_factory.mktemp("uncut") / "store", assets)


@pytest.mark.parametrize("screen_examples", [pytest.param(None, marks=pytest.mark.slow), 10])
def test_what_cannot_be_evaluated_is_left_out_and_the_training_goes_on_bit_for_bit(
    screen_examples: int | None,
    uncut: TrialRecord,
    tree: dict[str, Any],
    assets: AssetCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loss that is not finite, found in the screening or not before the evaluation; memory that does not suffice for
    the calibration at one rung, moments that are not finite at the other."""
    put_on = PossibleCut.put_on

    def broken(self: PossibleCut, layers: Any) -> None:
        put_on(self, layers)
        if self.cut.name == BROKEN:
            next(layer for layer in layers if layer.rank > 0).B.data.fill_(float("nan"))

    def no_moments(live: Any, *_: Any) -> Any:
        raise TooLittleMemoryError("no room") if live.step == 2 else NonFiniteError("inf")

    monkeypatch.setattr(PossibleCut, "put_on", broken)
    monkeypatch.setattr(possible_module, "second_moments", no_moments)
    trial = trial_of(tree, LADDER | {"cuts": CUTS | {"at": "every_rung", "screen_examples": screen_examples}})
    record = completed(trial, tree, tmp_path / "store", assets)
    assert [each for each in results(record) if "-" not in each[0]] == results(uncut)
    reasons = {each.name: each.left_out for each in record.screened_cuts if each.left_out is not None}
    loss = "validation loss is nan after step" if screen_examples is None else "validation loss on 10 examples is nan"
    for step, why in ((2, "no room"), (4, "inf")):
        assert reasons.pop(f"{step}{BROKEN}").startswith(loss)
        for size in ("2", "0.5"):
            assert reasons.pop(f"{step}-whitened-global_per_parameter-mean_rank-{size}") == why
    assert reasons == {}
    said: dict[str, str] = {}
    for line in Store(str(tmp_path / "store")).read_log(record.key):
        said |= line.get("cuts", {}).get("left_out", {})
    assert said == {each.name: each.left_out for each in record.screened_cuts if each.left_out is not None}
    beaten = [each.name for each in record.screened_cuts if each.beaten_by is not None]
    made = [each.name for each in record.candidates if each.cut is not None]
    assert sorted(made + beaten) == [f"{step}-svd-global_per_parameter-mean_rank-2" for step in (2, 4)]


def test_memory_that_does_not_suffice_for_a_cut_changes_no_later_evaluation(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = candidates_module.evaluate
    calls: list[int] = []

    def lacking(*given: Any, fit: Any, **more: Any) -> Any:
        calls.append(fit.evaluation_halvings)
        if len(calls) == 2:
            fit.evaluation_halvings = 3
            raise TooLittleMemoryError("no room")
        return evaluate(*given, fit=fit, **more)

    monkeypatch.setattr(candidates_module, "evaluate", lacking)
    values = LORA | {"cuts": {"sizes": {"mean_rank": [2, 0.5]}, "screen_examples": None}}
    record = completed(trial_of(tree, values), tree, tmp_path / "store", assets)
    assert calls == [0, 0, 0]
    assert [each.left_out for each in record.screened_cuts] == ["no room", None]
    assert len(record.candidates) == 2


# --- nothing twice


def test_what_was_screened_on_all_examples_is_not_measured_again(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_passed: list[int] = []
    evaluate = candidates_module.evaluate

    def counted(model: Any, task: Any, features: Any, **more: Any) -> Any:
        num_passed.append(len(features))
        return evaluate(model, task, features, **more)

    monkeypatch.setattr(candidates_module, "evaluate", counted)
    monkeypatch.setattr(few_examples, "evaluate", counted)
    found = {}
    for screen_examples in (None, 200):
        num_passed.clear()
        cuts = {"sizes": {"mean_rank": [2, 0.5]}, "screen_examples": screen_examples}
        record = completed(trial_of(tree, LORA | {"cuts": cuts}), tree, tmp_path / str(screen_examples), assets)
        found[screen_examples] = {each[0]: each for each in results(record)}
        assert num_passed == [20, 20, 20]
    assert found[200].items() <= found[None].items()
    assert len(found[200]) > 1


@pytest.mark.parametrize(
    ("values", "pauses", "told_by_then"),
    [
        pytest.param(LORA, (0, 1), [1, 2, 3], id="at the end"),
        pytest.param(LADDER, (0, 1, 4, 5), [1, 2, 5, 6], id="at a rung too", marks=pytest.mark.slow),
    ],
)
def test_a_pause_among_the_cuts_is_obeyed_and_nothing_is_told_or_made_again(
    values: dict[str, Any],
    pauses: tuple[int, ...],
    told_by_then: list[int],
    tree: dict[str, Any],
    assets: AssetCache,
    tmp_path: Path,
) -> None:
    """Before any cut, and with some that are left."""
    at = "every_rung" if values is LADDER else "end"
    trial = trial_of(tree, values | {"cuts": {"sizes": {"mean_rank": [2, 0.5]}, "screen_examples": None, "at": at}})
    whole = completed(trial, tree, tmp_path / "whole", assets)
    told: list[int] = []

    def report(candidate: dict[str, Any]) -> Verdict:
        told.append(candidate["step"])
        return Verdict.PAUSE if len(told) - 1 in pauses else Verdict.CONTINUE

    statuses, nums = [], []
    while "completed" not in statuses:
        status, record = run(trial, tree, tmp_path / "parts", assets, report)
        statuses.append(status)
        nums.append(len(told))
    assert (statuses[:-1], nums) == (["paused"] * (len(nums) - 1), told_by_then)
    assert record is not None
    assert results(record) == results(whole)
    assert record.screened_cuts == whole.screened_cuts
    parts, once = (
        [line for line in Store(str(tmp_path / name)).read_log(trial_key(trial)) if "cuts" in line]
        for name in ("parts", "whole")
    )
    assert parts == once


def test_the_harness_is_asked_of_what_was_trained_and_of_the_cuts_of_method_svd_alone(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = execute_module.load
    figure = Figure(value=0.5, num_examples=2)
    harness = SimpleNamespace(measure=lambda *_: HarnessFigures({"harness/x/acc": figure}, None))
    monkeypatch.setattr(execute_module, "load", lambda *given: replace(load(*given), harness=harness))
    cut = trial_of(tree, LORA | {"cuts": {"sizes": {"mean_rank": [2]}, "screen_examples": None}})
    svd = trial_of(tree, LORA | {"adapter.method": "svd", "svd": {"ranks": [2]}})
    asked = [
        ["harness/x/acc" in each.figures for each in completed(trial, tree, tmp_path / name, assets).candidates]
        for name, trial in (("cut", cut), ("svd", svd))
    ]
    assert asked == [[True, False], [True, True]]


# --- known before


@pytest.mark.parametrize(
    ("pruning", "sizes", "allocation", "problem"),
    [
        (None, {"kept": [0.9]}, "global", None),
        (
            {"target_rank": 2},
            {"mean_rank": [4, 2]},
            "uniform",
            "mean_rank 4 takes nothing .*: target_rank 2;",
        ),
        ({"target_rank": 2}, {"mean_rank": [4, 1]}, "uniform", None),  # a search may have other targets
        ({"target_rank": 2}, {"parameters": [48]}, "global", "parameters 48 takes nothing"),
        ({"target_rank": 2}, {"parameters": [47]}, "global", None),
        ([0.5, 0.2], {"kept": [0.3, 0.1]}, "global", r"kept 0.3 takes nothing .*: rung 2 of the ladder \(kept 0.2\);"),
        ([0.5, 0.2], {"kept": [0.16, 0.1]}, "global", None),
        ([0.5, 0.2], {"mean_rank": [3]}, "uniform", None),  # a layer may keep all of its own
    ],
)
def test_cuts_that_take_nothing_for_certain_are_refused(
    pruning: Any, sizes: Any, allocation: str, problem: str | None, tree: dict[str, Any]
) -> None:
    if isinstance(pruning, list):
        pruning = {"schedule": {"name": "ladder", "rungs": {"kept": pruning}}, "allocation": "global"}
    elif pruning is not None:
        schedule = {"name": "linear", "begin": 0.1, "end": 0.5, "every_steps": 1}
        pruning = {"schedule": schedule, "allocation": "uniform"} | pruning
    method = "lora" if pruning is None else "prunedlora"
    cuts = {"sizes": sizes, "allocations": [allocation]}
    values = LORA | {"adapter.method": method, "pruning": pruning, "cuts": cuts}
    layers: Any = [SimpleNamespace(rank=6, width=12) for _ in range(2)]
    if problem is None:
        assert checked_start(trial_of(tree, values), Start.of_layers(layers)).layers == {(6, 12): 2}
        if isinstance(pruning, dict) and "target_rank" not in pruning:
            above = values | {"cuts": {"sizes": {"kept": [0.9]}, "allocations": ["global"], "at": "every_rung"}}
            checked_start(trial_of(tree, above), Start.of_layers(layers))
    else:
        with pytest.raises(SettingsError, match=problem):
            checked_start(trial_of(tree, values), Start.of_layers(layers))


# --- workers


class _SecondOfTwo(Workers):
    """A worker whose rank 0 finds something else."""

    def gather(self, value: Any) -> list[Any]:
        return [None, value]

    def from_first(self, value: Any) -> Any:
        ranks, left_out = value
        first, second = ranks
        return {first: (1, 2)}, {**left_out, second: "takes nothing"}


def test_ranks_and_what_is_left_out_are_as_rank_0_finds_them() -> None:
    torch.manual_seed(0)
    layers = [SimpleNamespace(A=torch.randn(4, 6), B=torch.randn(6, 4), scaling=1.0) for _ in range(2)]
    live: Any = SimpleNamespace(step=7, method=SimpleNamespace(layers=layers))
    settings = CutsConfig.model_validate({"sizes": {"mean_rank": [2, 1]}, "allocations": ["uniform"]})
    start = Start.of([4, 4], [12, 12])
    alone, _ = possible_cuts(settings, live, ALONE, start, {"svd"}, lambda _: None)
    assert [each.ranks for each in alone] == [(2, 2), (1, 1)]
    shared, left_out = possible_cuts(settings, live, _SecondOfTwo(1, 2, CPU), start, {"svd"}, lambda _: None)
    assert [(each.cut, each.ranks) for each in shared] == [(alone[0].cut, (1, 2))]
    assert left_out == {alone[1].cut: "takes nothing"}
