import io
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.harness_document import HarnessRun, write_harness
from prunedlora.results.record import Beaten, Decision, Failure, Figure, JudgedByLoss, Look
from prunedlora.results.store import Store
from prunedlora.sweep import progress as progress_module
from prunedlora.sweep.outcome import harness_problems
from prunedlora.sweep.progress import Progress
from prunedlora.sweep.signals import TERMINATED, Signals
from prunedlora.sweep.slot_news import SlotNews
from prunedlora.sweep.slot_rungs import SlotRungs
from tests.inventions import invented_record, sweep_tree

OBJECTIVES = Objectives("accuracy", True, "adapter_params")


def snapshot(ended: dict[str, str], step: int = 5) -> dict[str, Any]:
    work = {"kind": "trial", "key": "running", "candidate": ""}
    slot = {
        "state": "busy", "work": work, "step": step, "num_steps": 10, "tokens_per_second": 1234.5, "last": None
    }  # fmt: skip
    starting = {
        "state": "starting", "work": None, "step": 0, "num_steps": 0, "tokens_per_second": None, "last": None
    }  # fmt: skip
    return {"queued": 0, "running": 1, "ended": ended, "slots": {0: slot, 1: starting}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    trial = sweep_tree(tmp_path)["trial"]
    store.write_record(invented_record("a", trial), driver_epoch=1)
    store.write_record(invented_record("b", trial, "failed"), driver_epoch=1)
    return store


def started(store: Store, console: Console) -> Progress:
    return Progress(store, OBJECTIVES, num_trials=4, console=console, records=store.records())


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_stopped_trial_is_told_with_those_who_beat_it_and_again_when_it_has_gone_on(
    is_terminal: bool, store: Store, tmp_path: Path
) -> None:
    text = io.StringIO()
    record = invented_record("c", sweep_tree(tmp_path)["trial"], "stopped")
    beaten = tuple(Beaten(size=size, by=by) for size, by in ((1, "a"), (2, "b"), (3, "a")))
    look = Look(
        step=2, share=0.1, loss=Figure(value=1.0, num_examples=2), decision=Decision(stops=True, beaten_by=beaten)
    )
    store.write_record(record.model_copy(update={"looks": (look,)}), driver_epoch=1)
    with started(store, Console(file=text, force_terminal=is_terminal, width=150)) as progress:
        progress.update(snapshot({"c": "stopped"}))
        store.write_record(record.model_copy(update={"status": "completed"}), driver_epoch=1)
        progress.update(snapshot({"c": "completed"}))
    said = text.getvalue()
    assert said.count("trial c stopped at 10% of its steps, beaten by a, b: accuracy") == 1
    if not is_terminal:
        assert "1 of those done were stopped" in said
        assert "trial c completed: accuracy" in said


@pytest.mark.parametrize("is_terminal", [True, False])
def test_points_and_front_are_worked_out_when_there_is_news_alone(
    is_terminal: bool, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"points": 0, "front": 0}

    def counted(name: str, function: Any) -> Any:
        def count(*inputs: Any) -> Any:
            calls[name] += 1
            return function(*inputs)

        return count

    for name in calls:
        monkeypatch.setattr(progress_module, name, counted(name, getattr(progress_module, name)))
    with started(store, Console(file=io.StringIO(), width=100, force_terminal=is_terminal)) as progress:
        for _ in range(50):
            progress.update(snapshot({}))
        assert calls == {"points": 1, "front": 1}
        store.write_record(invented_record("c", sweep_tree(tmp_path)["trial"]), driver_epoch=1)
        for _ in range(50):
            progress.update(snapshot({"c": "completed"}))
        assert calls == {"points": 2, "front": 2}


def test_of_a_paused_trial_no_record_is_looked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = started(store, Console(file=io.StringIO()))
    monkeypatch.setattr(store, "read_record", lambda key: pytest.fail(f"read {key}"))
    progress.update(snapshot({"c": "paused"}))


def test_a_log_gets_a_line_for_every_change(store: Store) -> None:
    text = io.StringIO()
    progress = started(store, Console(file=text, width=60))
    with progress:
        progress.update(snapshot({}))
        progress.update(snapshot({}))
        progress.update(snapshot({"a": "completed", "b": "failed", "c": "paused"}))
        progress.update(snapshot({"a": "completed", "b": "failed", "c": "paused"}))
    lines = text.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("1/4 done, 1 running, 1 failed, best accuracy 0.")
    assert {line.split(":")[0] for line in lines[1:3]} == {"trial a completed", "trial b failed"}
    assert "trial b failed: ValueError: invented" in lines
    assert "about" in lines[3]


def test_a_harness_that_failed_is_told(store: Store, tmp_path: Path) -> None:
    """In the trial's line, and among the problems at the end, until it is measured."""
    trial = sweep_tree(tmp_path)["trial"]
    trial["evaluation"] |= {"harness_tasks": ["a", "my task.yaml"], "harness": {"limit": 0.1, "unsafe_code": True}}
    trial["evaluation"]["harness"] |= {"batch_size": 8, "num_fewshot": None}
    record = invented_record("h", trial)
    failure = Failure(type="HarnessError", message="harness/a/acc is nan", traceback="")
    last = record.candidates[-1].model_copy(update={"harness_failure": failure})
    store.write_record(record.model_copy(update={"candidates": (last,)}), driver_epoch=1)
    text = io.StringIO()
    progress = started(store, Console(file=text, width=60))
    progress.update(snapshot({"h": "completed"}))
    assert "s; lm-evaluation-harness failed: HarnessError: harness/a/acc is nan\n" in text.getvalue()
    command = f"prunedlora harness {store.uri} h@{last.name} --task a --task 'my task.yaml' --batch-size 8 --limit 0.1"
    assert harness_problems(store, store.records()) == [
        f"lm-evaluation-harness has not measured h@{last.name}: HarnessError: harness/a/acc is nan; measure it with: "
        f"{command} --unsafe-code"
    ]
    for tasks, num_left in (["a"], 1), (["my task.yaml", "b", "a"], 0):
        later = HarnessRun(
            key="h", candidate=last.name, tasks=tuple(tasks), settings={}, figures={}, environment=record.environment
        )
        write_harness(store, later)
        assert len(harness_problems(store, store.records())) == num_left


def test_a_terminal_shows_slots_and_front(store: Store) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, record=True)
    progress = started(store, console)
    with progress:
        progress.update(snapshot({"a": "completed"}))
        console.print(progress._view_of(snapshot({"a": "completed"})))
    text = console.export_text()
    for part in ("1/4 done", "busy", "running", "5/10", "starting", "adapter_params", "tokens/s", "1,234"):
        assert part in text


def test_time_left_counts_what_is_begun(store: Store) -> None:
    progress = started(store, Console(file=io.StringIO()))
    assert progress.seconds_left(snapshot({})) is None
    progress.update(snapshot({"a": "completed"}))
    assert progress.seconds_left(snapshot({}, step=5)) == pytest.approx((4 - 2 - 0.5) * 1.0 / 2)
    record = store.read_record("a")
    assert record is not None
    store.write_record(record.model_copy(update={"key": "c", "evaluation_seconds": 4.0}), driver_epoch=1)
    progress.update(snapshot({"a": "completed", "c": "completed"}))
    assert progress.seconds_left(snapshot({}, step=5)) == pytest.approx((4 - 3 - 0.5) * (1.0 + 5.0) / 2 / 2)


def test_waiting_and_closed_slots_are_shown_and_said_once(store: Store) -> None:
    text = io.StringIO()
    progress = started(store, Console(file=text, width=200))
    slots: Any = SimpleNamespace(closed={}, waiting_text=lambda snapshot: "waiting for resources: 1 of 3")
    news = SlotNews(progress)
    now = snapshot({"a": "completed"})
    news.tell(now, slots)
    now["slots"][1]["state"] = "waiting for resources"
    for _ in range(3):
        news.tell(now, slots)
    slots.closed[2] = "slot 2 on node 10.0.0.2 was closed after 3 failures before the first step: OSError: disk"
    now["slots"][2] = now["slots"][1] | {"state": "closed"}
    for _ in range(3):
        news.tell(now, slots)
    assert text.getvalue().splitlines() == ["waiting for resources: 1 of 3", slots.closed[2]]
    progress.update(now)
    assert "1 of 3 slots wait for resources" in text.getvalue()
    assert progress.seconds_left(now) == pytest.approx((4 - 2 - 0.5) * 1.0)


def test_signals_are_noted_while_watching_and_end_at_once_otherwise() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended.value.code == TERMINATED
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        signals.watching = True
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_slot_says_on_which_rung_its_trial_stands(store: Store, tmp_path: Path) -> None:
    tree = sweep_tree(tmp_path)["trial"]
    rungs = {"parameters": [500, 200]}
    ladder = {"name": "ladder", "rungs": rungs, "trunk": 0.5, "rate": "branch", "branch": 0.2}
    tree["pruning"] = {"schedule": ladder}
    tree["training"] = {"num_steps": 40, "batch_size": 4}
    store.write_config("running", tree)
    found = SlotRungs(store)
    # The trunk ends with step 20, where its candidate is made; the rungs with 30 and 40.
    steps = {0: "trunk", 20: "trunk", 21: "rung 1/2", 30: "rung 1/2", 31: "rung 2/2", 40: "rung 2/2"}
    assert {step: found.text("running", step, 40) for step in steps} == steps
    assert found.text("running", 0, 0) == ""  # not begun: no number of steps
    assert found.text("unknown", 5, 40) == ""
    store.write_config("plain", sweep_tree(tmp_path)["trial"])
    assert found.text("plain", 5, 20) == ""
    adapter = {"start_from": "a/b"}
    store.write_config(
        "existing", tree | {"pruning": {"basis": "svd", "schedule": ladder | {"trunk": 0.0}}, "adapter": adapter}
    )
    assert [found.text("existing", step, 40) for step in (1, 20, 21)] == ["rung 1/2", "rung 1/2", "rung 2/2"]
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with started(store, console) as progress:
        slots = snapshot({})
        newest = {"adapter_params": 4000, "figures": {"accuracy": 0.91, "loss": 0.3}}
        slots["slots"][0] |= {"step": 25, "num_steps": 40, "last": newest}
        progress.update(slots)
    assert "25/40  rung 1/2  last accuracy 0.910, 4,000 parameters" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_trial_with_rungs_is_told_by_its_smallest_and_its_largest(store: Store, tmp_path: Path) -> None:
    record = invented_record("l", sweep_tree(tmp_path)["trial"])
    (last,) = record.candidates
    rungs = [
        last.model_copy(
            update={
                "step": 10 + i,
                "rung": i,
                "adapter_params": size,
                "figures": {"accuracy": Figure(value=value, stderr=0.01, num_examples=100)},
            }
        )
        for i, (size, value) in enumerate(((4000, 0.9), (2000, 0.85), (1000, 0.8)))
    ]
    store.write_record(record.model_copy(update={"candidates": tuple(rungs)}), driver_epoch=1)
    console = Console(file=io.StringIO(), width=200)
    with started(store, console) as progress:
        progress.update(snapshot({"l": "completed"}))
    assert (
        "trial l completed: accuracy 0.800 ± 0.010, 1,000 parameters to accuracy 0.900 ± 0.010, 4,000 parameters "
        "(3 candidates), 1 s"
    ) in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_ended_trial_says_what_evaluating_took_and_what_was_judged_by_loss(store: Store, tmp_path: Path) -> None:
    record = invented_record("c", sweep_tree(tmp_path)["trial"]).model_copy(
        update={"train_seconds": 3.0, "evaluation_seconds": 1.0}
    )
    text = io.StringIO()
    with started(store, Console(file=text, width=200)) as progress:
        store.write_record(record, driver_epoch=1)
        progress.update(snapshot({"c": "completed"}))
        (last,) = record.candidates
        why = JudgedByLoss(beaten_by="a@20", num_examples=400, difference=0.5, stderr=0.1)
        figures = {"loss": Figure(value=1.5, num_examples=400)}
        judged = last.model_copy(update={"judged_by_loss": why, "figures": figures})
        store.write_record(record.model_copy(update={"key": "d", "candidates": (judged,)}), driver_epoch=1)
        progress.update(snapshot({"c": "completed", "d": "completed"}))
    shown = text.getvalue()
    assert f"{last.adapter_params:,} parameters, 3 s, evaluation 25% of the time\n" in shown
    assert "trial d completed: loss 1.500 (judged by loss: beaten by a@20 on 400 examples), " in shown
