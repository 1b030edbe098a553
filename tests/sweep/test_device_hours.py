"""A limit to what slots are busy for: counted, refused where nothing fits, reached and raised."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.store import PLAN_FILE, Store
from prunedlora.study.asker import Asker
from prunedlora.sweep import early_end
from prunedlora.sweep.device_hours import DeviceHoursError, Meter, check_device_hours, device_hours_lines, spent_before
from prunedlora.sweep.estimate import Group, planned
from tests.sweep.test_estimate import SPEED, SPEEDS, amount
from tests.sweep.test_run_here import only_record, run, tree_of

Make = Callable[..., SweepConfig]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> SweepConfig:
    return parse_sweep(tree_of(folder, tmp_path / "store"), "test")


def snapshot(*works: Any) -> dict[str, Any]:
    return {"slots": {number: {"work": work} for number, work in enumerate(works)}}


def test_a_meter_counts_slots_with_work_in_hand_by_their_devices() -> None:
    now = [100.0]
    meter = Meter(1.0, before=600.0, devices=2.0, clock=lambda: now[0])
    assert (meter.device_seconds, meter.is_spent, meter.seconds_left) == (600.0, False, 1500.0)
    now[0] += 10
    meter.see(snapshot({"kind": "trial"}, None, {"kind": "base"}))
    assert meter.device_seconds == 600.0 + 10 * 2 * 2
    now[0] += 50
    meter.see(snapshot(None, None))
    assert meter.device_seconds == 640.0
    now[0] += 1480
    meter.see(snapshot({"kind": "trial"}))
    assert (meter.device_seconds, meter.is_spent, meter.seconds_left) == (3600.0, True, 0.0)


def test_less_than_one_training_is_refused_by_the_plan_on_record(make_sweep: Make) -> None:
    """As long as it is of these settings; and not what suffices, or where nothing is known."""
    config = make_sweep(num_trials=2, max_device_hours=1e-3)
    store = Store(config.storage)
    asker = Asker(config, store)
    amounts = {"": [amount(1000), amount(3000)]}
    check_device_hours(config, store, asker, amounts)  # no speed is known
    assert device_hours_lines(config, store, asker, amounts) == [
        "max_device_hours 0.001: cannot be checked before a step was measured: run prunedlora plan"
    ]
    assert device_hours_lines(make_sweep(num_trials=2), store, asker, amounts) == []
    store.write_document(PLAN_FILE, planned(config, [Group("", 2, tuple(amounts[""]))], SPEEDS, 1, 0.0))
    message = "max_device_hours 0.001 is less than one training takes: about 0.0149 device hours by the plan on record"
    with pytest.raises(DeviceHoursError, match=f"{message}; set at least 0.015"):
        check_device_hours(config, store, asker, amounts)
    check_device_hours(make_sweep(num_trials=2, max_device_hours=0.015), store, asker, amounts)
    check_device_hours(make_sweep(num_trials=3, max_device_hours=1e-3), store, asker, amounts)
    assert SPEED.position_seconds * 50_000 == pytest.approx(50.0)


def test_the_hours_are_spent_and_raised(config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It pauses with a checkpoint, trains nothing under the same limit, and goes on under a higher one."""
    limited = config.model_copy(update={"max_device_hours": 1.0})
    verdict, calls = early_end.EarlyEnd.verdict, [0]

    def spent(end: early_end.EarlyEnd) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            monkeypatch.setattr(end, "_spent_at", 0.0)
        return verdict(end)

    monkeypatch.setattr(early_end.EarlyEnd, "verdict", spent)
    result, text = run(limited)
    assert (result.exit_code, result.ending) == (0, "the device hours are spent")
    assert "the device hours are spent: what is in hand writes a checkpoint and goes on in the next run" in text
    assert "Raise max_device_hours and run the same command again to go on." in text
    store = Store(config.storage)
    [ask] = store.asks()
    assert store.read_record(ask.key) is None
    monkeypatch.undo()

    before = spent_before(store, [], config)
    assert before > 0.0  # of the checkpoint
    result, _ = run(config.model_copy(update={"max_device_hours": before / 3600}))
    assert (result.exit_code, result.ending, result.num_new) == (0, "the device hours are spent", 0)
    result, _ = run(limited)
    assert (result.ending, result.num_resumed) == ("all trials are done", 1)
    record = only_record(store)
    assert spent_before(store, [record], config) == record.train_seconds + (record.evaluation_seconds or 0.0) > before

    # A further baseline: its steps, and how long those on record took, tell that it does not fit.
    more = {**config.baselines[0], "label": "more", "optimizer.learning_rate": 1e-3}
    short = config.model_copy(update={"baselines": [*config.baselines, more], "max_device_hours": 1e-9})
    with pytest.raises(DeviceHoursError, match=r"max_device_hours 1e-09 is less than .* by the fastest step on record"):
        run(short)
