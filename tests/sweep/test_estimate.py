"""What a plan multiplies and adds, against hand counts and brute force."""

from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.config.sweep import ResourcesConfig, SweepConfig
from prunedlora.results.analysis.plan_document import MeasuredSpeed
from prunedlora.sweep.estimate import (
    Group,
    devices_per_slot,
    evaluation_seconds,
    groups_of,
    makespan,
    planned,
    train_seconds,
)
from prunedlora.sweep.evaluation_cost import EvaluationCost
from prunedlora.sweep.plan_text import amount_lines, estimate_lines, num_within, stopping_line
from prunedlora.sweep.training_amount import TrainingAmount

Make = Callable[..., SweepConfig]
SPEED = MeasuredSpeed(
    kind="lora on m", device="cpu", loading_seconds=2.0, num_steps=5, step_seconds=0.1, position_seconds=0.001,
    example_seconds=0.01, answer_seconds=0.1, export_seconds=0.5, peak_bytes=2**30,
)  # fmt: skip
SPEEDS = {SPEED.kind: SPEED}


def amount(num_steps: int = 100, **cost: Any) -> TrainingAmount:
    """Of 10 examples a step, of 4 tokens each and a fifth of padding beside them."""
    fields: dict[str, Any] = {
        "has_ladder": False, "num_trained": 2, "num_cuts": 3, "num_examples": 20, "least_of_cut": 5, "most_of_cut": 25,
        "calibrating": 0, "max_new_tokens": None, "is_at_most": False, "num_documents": 0, "num_by_harness": 0,
        "examples_trained": 10 * num_steps, "tokens_trained": 40.0 * num_steps,
    }  # fmt: skip
    return TrainingAmount(SPEED.kind, num_steps, 40.0 * num_steps, 50.0 * num_steps, EvaluationCost(**fields | cost))


def test_seconds_of_one_training() -> None:
    assert train_seconds(amount(), SPEEDS) == pytest.approx(5.0)
    losses, exports = (2 * 20 + 3 * 25) * 0.01, 5 * 0.5
    assert evaluation_seconds(amount(), SPEEDS) == pytest.approx(losses + exports)
    answers = amount(max_new_tokens=8, calibrating=40)
    assert answers.num_answers == 5 * 20
    assert evaluation_seconds(answers, SPEEDS) == pytest.approx(losses + exports + 100 * 0.1 + 40 * 5.0 / 1000)
    untrained = amount(0, calibrating=40)
    assert (train_seconds(untrained, SPEEDS), evaluation_seconds(untrained, SPEEDS)) == (0.0, losses + exports)


@pytest.mark.parametrize("num_slots", [1, 2, 3, 9])
def test_the_last_slot_ends_as_if_one_watched_them(num_slots: int) -> None:
    """Second by second, against the shortcut."""
    seconds = [3, 1, 4, 1, 5, 9, 2, 6]
    waiting, busy = seconds.copy(), [0] * num_slots
    now = 0
    while True:
        for slot in range(num_slots):
            if busy[slot] == 0 and waiting:
                busy[slot] = waiting.pop(0)
        if not any(busy):
            break
        busy = [max(0, left - 1) for left in busy]
        now += 1
    assert makespan(map(float, seconds), num_slots) == now


def test_baselines_of_one_name_and_the_search_are_counted_as_often_as_they_are(make_sweep: Make) -> None:
    baselines = [{"adapter.initial_rank": 2}, {"adapter.initial_rank": 3}, {"label": "x", "adapter.initial_rank": 5}]
    config = make_sweep(num_trials=6, baselines=baselines)
    method = config.trial.method
    amounts = {"": [amount(10), amount(30)], method: [amount(50)], "x": [amount(100)]}
    assert [(group.name, group.number) for group in groups_of(config, amounts)] == [(method, 2), ("x", 1), ("", 6)]
    assert groups_of(config, amounts, 4)[-1].number == 4
    assert groups_of(config, amounts, 40)[-1].number == 6
    assert groups_of(config, amounts)[-1].mean(lambda each: each.num_steps) == 20


def test_a_plan_of_a_whole_sweep(make_sweep: Make) -> None:
    config = make_sweep(num_trials=2, baselines=[{"adapter.initial_rank": 2}], resources={"num_workers": 2})
    groups = [Group("lora", 1, (amount(),)), Group("", 2, (amount(100), amount(300)))]
    plan = planned(config, groups, SPEEDS, num_slots=2, startup=7.0)
    candidates = (2 * 20 + 3 * 25) * 0.01 + 5 * 0.5
    assert (plan.num_trainings, plan.num_candidates, plan.num_steps) == (3, 15, 100 + 2 * 200)
    assert (plan.tokens, plan.positions) == (40.0 * 500, 50.0 * 500)
    assert plan.train_seconds == pytest.approx(25.0)
    assert plan.evaluation_seconds == pytest.approx(3 * candidates)
    assert plan.device_seconds == pytest.approx(2 * (25.0 + 3 * candidates))  # two workers a slot
    assert plan.least_seconds == pytest.approx(5.0 + candidates)
    assert plan.most_seconds == pytest.approx(35.0 + 3 * candidates)
    # The baseline and one of the search side by side, then the other one where the baseline was.
    assert plan.wall_seconds == pytest.approx(7.0 + 2.0 + 5.0 + 10.0 + 2 * candidates)
    assert plan.held_seconds == pytest.approx(4 * plan.wall_seconds)
    a_training = plan.device_seconds / 3
    assert [num_within(plan, limit * a_training) for limit in (0.99, 1.0, 2.5, 100.0)] == [0, 1, 2, 3]


def test_what_a_plan_says(make_sweep: Make) -> None:
    config = make_sweep(num_trials=2, baselines=[{"adapter.initial_rank": 2}])
    groups = [Group("lora", 1, (amount(),)), Group("", 2, (amount(100), amount(300, num_documents=5)))]
    assert amount_lines(groups) == [
        "In all: 3 trainings, 15 candidates at most, 500 steps, 5,000 examples, 20,000 tokens trained (20% of what "
        "passes is padding beside them), 345 validation examples for loss",
        "A training of the search has 100 to 300 steps: counted with their mean",
    ]
    plan = planned(config, groups, SPEEDS, num_slots=1, startup=0.0)
    lines = list(estimate_lines(plan, groups, price_per_hour=3600.0, max_device_hours=20 / 3600))
    assert lines[0] == (
        "Speed of lora on cpu: 100 ms a step (median of 5), 10 ms a validation example, 100 ms an answer, 500 ms an "
        "export; loading 2 s"
    )
    assert lines[1] == "Time: about 38 s on 1 slot, start of the slots and loading included"
    assert lines[2].startswith(
        "Device hours: about 0.00999 (training 0.00694, measuring candidates 0.00304), 0.00333 a"
    )
    assert "; at most 0.0128, were the search to ask for the longest alone; 0.0105 until the last slot" in lines[2]
    assert lines[3].startswith("Memory: 1 GiB a worker")
    assert lines[4] == "Price: about 37.95 at 3600 per device hour, for as long as slots hold devices"
    assert lines[5] == "max_device_hours 0.00555556: 1 of 3 trainings fit"
    assert "making cuts, documents of harness tasks; what is stopped" in lines[6]


def test_what_is_said_of_stopping(make_sweep: Make) -> None:
    groups = [Group("lora", 1, (amount(),)), Group("", 2, (amount(100),))]
    assert stopping_line(StoppingConfig(looks=[0.1, 0.5]), groups) == (
        "Stopping: a trial of the search is looked at near step 10, 50 of 100, and at its candidates on the way, by "
        "its loss on at most 200 validation examples; one that is left behind ends, and its candidates count"
    )
    line = stopping_line(StoppingConfig(examples=None, then="pause"), [Group("", 2, (amount(100), amount(300)))])
    assert "after 0.1 of its steps, and at its candidates on the way, by its loss on all validation examples" in line
    assert line.endswith("pauses with a checkpoint, and is judged again when nothing is left to ask")
    assert "is looked at where it has candidates on the way, by its loss" in stopping_line(
        StoppingConfig(looks=[]), groups
    )
    plan = planned(make_sweep(num_trials=2), groups, SPEEDS, num_slots=1, startup=0.0)
    limits = {"price_per_hour": None, "max_device_hours": None}
    for has_looks in (False, True):
        last = [*estimate_lines(plan, groups, **limits, has_looks=has_looks)][-1]
        assert ("the looks by which trials are stopped" in last) is has_looks


def test_devices_of_a_slot() -> None:
    """GPUs, or what part of one; on CPUs workers, whatever threads they have."""
    assert devices_per_slot(ResourcesConfig(num_workers=3, cpus_per_worker=4)) == 3
    assert devices_per_slot(ResourcesConfig(num_workers=3, gpus_per_worker=1)) == 3
    assert devices_per_slot(ResourcesConfig(gpus_per_worker=0.25)) == 0.25
