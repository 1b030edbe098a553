"""A plan beside what a tiny sweep took: what needs no clock is equal to the last token."""

import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.fleet import cluster
from prunedlora.results.analysis.plan_document import PlanDocument
from prunedlora.results.report.report import write_report
from prunedlora.results.storage import StoreError
from prunedlora.results.store import PLAN_FILE, Store
from prunedlora.sweep import plan_ahead as plan_ahead_module
from prunedlora.sweep.device_hours import DeviceHoursError
from prunedlora.sweep.estimate import groups_of
from prunedlora.sweep.plan import print_plan
from prunedlora.sweep.plan_ahead import NothingToMeasureError, measured_trials, plan_ahead
from prunedlora.sweep.preflight import preflight
from prunedlora.sweep.training_amount import amount_of, speed_kind
from prunedlora.tasks.task import Features, Shortened
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.measured_speed import measure_speed
from tests.sweep.test_run_here import run, tree_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def config_in(folder: Path, storage: Path, **changes: Any) -> SweepConfig:
    tree = tree_of(folder, storage, **changes)
    tree["trial"]["training"] = {"num_steps": 9, "batch_size": 8, "micro_batch_size": 3}
    return parse_sweep(tree, "test")


def ahead(config: SweepConfig, *, calibrates: bool = True, price_per_hour: float | None = None) -> str:
    text = io.StringIO()
    console = Console(file=text, width=500)
    plan_ahead(config, config.storage, console, price_per_hour=price_per_hour, calibrates=calibrates)
    return text.getvalue()


def measured_here(trials: Any, *_: Any) -> Any:
    """In the place of a slot."""
    cpu = torch.device("cpu")
    assets = AssetCache(cpu)
    return 1.0, [
        measure_speed(trial, kind, assets=assets, workers=Workers(0, 1, cpu)) for kind, trial in trials.items()
    ]


def test_a_plan_is_kept_told_and_set_beside_the_truth(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_ahead_module, "measure_in_slot", measured_here)
    monkeypatch.setattr(cluster, "connected", nullcontext)
    config = config_in(folder, tmp_path / "store")
    counts = "In all: 1 training, 4 candidates at most, 9 steps, 72 examples, "
    text = ahead(config, calibrates=False)
    assert counts in text
    assert "Speed of" not in text
    assert not (tmp_path / "store").exists()
    text = ahead(config, price_per_hour=2.5)
    assert counts in text
    assert "Speed of lora on cpu: " in text
    assert " at 2.5 per device hour" in text
    assert f"Kept: {tmp_path}/store/plan.json" in text
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["plan.json"]

    # The dry run has it; of other settings it says so.
    shown = io.StringIO()
    print_plan(config, config.storage, Console(file=shown, width=500))
    assert "Plan on record:\n  Speed of lora" in shown.getvalue()
    other = config_in(folder, tmp_path / "store", baselines=[{"label": "plain"}, {"adapter.initial_rank": 5}])
    assert "Plan on record: of other baselines; prunedlora plan measures again" in ahead(other, calibrates=False)

    # A limit below it refuses the sweep, and not what measures anew.
    short = config.model_copy(update={"max_device_hours": 1e-9})
    with pytest.raises(DeviceHoursError, match=r"max_device_hours 1e-09 is less than one training takes"):
        print_plan(short, config.storage, Console(file=shown))
    assert "max_device_hours 1e-09: 0 of 1 training fit" in ahead(short, calibrates=False)

    _, text = run(config)
    assert "Plan: 1 training and " in text
    store = Store(config.storage)
    summary = write_report(store)
    [record] = summary.records
    figures = {
        one["name"]: one for one in json.loads((tmp_path / "store/report/report.json").read_text())["plan"]["figures"]
    }
    for name in ("trainings", "candidates", "steps", "tokens"):
        assert figures[name]["ratio"] == 1.0, name
    plan = store.read_document(PlanDocument, PLAN_FILE)
    assert plan is not None
    assert record.padding_share is not None
    assert plan.positions == pytest.approx(record.candidates[-1].tokens_seen / (1 - record.padding_share))
    assert figures["device seconds"]["real"] == record.train_seconds + (record.evaluation_seconds or 0.0)
    page = (tmp_path / "store/report/report.html").read_text()
    assert "How far the plan was from the truth" in page
    assert "<td>device time of training</td>" in page
    # What is planned once the sweep has begun is no plan of it.
    before = (tmp_path / "store/plan.json").read_text()
    assert "Not kept: the sweep has begun" in ahead(config)
    assert (tmp_path / "store/plan.json").read_text() == before


def test_a_plan_makes_no_room_for_other_files(folder: Path, tmp_path: Path) -> None:
    config = config_in(folder, tmp_path / "store")
    (tmp_path / "store").mkdir()
    for name in ("plan.json", "ray", "notes.txt"):
        (tmp_path / "store" / name).write_text("{}")
    with pytest.raises(StoreError, match=r"is not empty and no store \(it holds notes.txt\)"):
        Store(config.storage).check({})


def test_padding_is_counted_in_all_batches_of_a_short_training_and_a_sample_of_a_long_one(folder: Path) -> None:
    trial = config_in(folder, folder / "store").trial
    features = [Features([1] * (1 + i % 7), [0], Shortened.NOT, None) for i in range(40)]
    amounts = [amount_of(trial, steps, features, 2, None) for steps in (64, 5, 1000)]  # type: ignore[arg-type]
    assert amounts[1].tokens == sum(len(f.input_ids) for f in features)  # five batches of eight: each example once
    assert amounts[2].tokens == pytest.approx(1000 / 5 * amounts[1].tokens)
    assert amounts[2].positions / amounts[2].tokens == pytest.approx(amounts[0].positions / amounts[0].tokens, rel=0.02)
    assert all(amount.positions > amount.tokens for amount in amounts)


def test_speeds_are_measured_at_the_largest_rank_once_for_each_method(folder: Path, tmp_path: Path) -> None:
    tree = tree_of(folder, tmp_path / "store", baselines=[{"label": "a"}, {"adapter.initial_rank": 7}])
    tree |= {"num_trials": 1, "space": {"adapter.initial_rank": {"choice": [4, 9, 5]}}}
    tree["baselines"] += [{"adapter.method": "rslora", "adapter.use_rslora": True}]
    config = parse_sweep(tree, "test")
    groups = groups_of(config, preflight(config).amounts)
    found = measured_trials(config, groups, {})
    ranks = [(trial.method, trial.adapter and trial.adapter.initial_rank) for trial in found.values()]
    assert ranks == [("lora", 9), ("rslora", 6)]
    assert list(found) == [speed_kind(trial) for trial in found.values()]


def test_the_base_itself_is_no_training_of_the_search(folder: Path, tmp_path: Path) -> None:
    """But a corner that is like it is one."""
    for lengths in ([20, 40], [9, 20]):
        space = {"training.num_steps": {"choice": lengths}}
        config = config_in(folder, tmp_path / "store", baselines=[], num_trials=2, space=space)
        assert [amount.num_steps for amount in preflight(config).amounts[""]] == lengths


def test_what_trains_nothing_has_no_speed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_in(folder, tmp_path / "store")
    groups = groups_of(config, preflight(config).amounts)
    update = {"training": config.trial.training.model_copy(update={"num_steps": 0})}
    monkeypatch.setattr(plan_ahead_module, "every_trial", lambda _: [config.trial.model_copy(update=update)])
    with pytest.raises(NothingToMeasureError, match=r"training\.num_steps is 0 for lora: nothing is trained"):
        measured_trials(config, groups, {})
