"""Looks at a trial on the way: the training is the same with them, and what they decide is kept."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.pruning.ladder import Ladder
from prunedlora.results.record import Decision, GoesOn, StoredLook, TrialRecord
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.training.course import Course
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.training.memory import Fit, TooLittleMemoryError
from prunedlora.trial import few_examples
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.looking import Judge, Looking, look_steps
from tests.ranks import run_ranks
from tests.tiny import sweep_tree
from tests.trial.test_interrupted import KilledError, killed_at, new_store, results

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
STOPS = {"stops": True, "beaten_by": ({"size": 100.0, "by": "other"},), "spared": None, "peers": {"other": 0.5}}
DROPOUT = {"droplora": {"probability": 0.5}, "pruning": None, "adapter.method": "droplora"}


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep_tree(tmp_path_factory.mktemp("tiny"), "unused")


@pytest.fixture
def store(tree: dict[str, Any], tmp_path: Path) -> Store:
    return new_store(tree, tmp_path / "store")


class Told:
    """A judge that remembers what it was told, and stops at some steps."""

    def __init__(self, *stops: int) -> None:
        self.looks: list[tuple[int, bool]] = []
        self._stops = stops

    def __call__(self, stored: StoredLook, is_decided: bool) -> dict[str, Any] | None:
        self.looks.append((stored.look.step, is_decided))
        return STOPS if stored.look.step in self._stops else STOPS | {"stops": False}


def run(
    trial: TrialConfig,
    store: Store,
    assets: AssetCache,
    judge: Judge | None,
    progress: Callable[[int, int, float], Verdict] = lambda *_: Verdict.CONTINUE,
    workers: Workers = ALONE,
    **stopping: Any,
) -> str:
    looking = None if judge is None else Looking(StoppingConfig(**{"examples": 5} | stopping), judge)
    return execute_trial(
        trial, trial_key(trial), store=store, assets=assets, workers=workers, epoch=1, max_attempts=3,
        report=lambda _: Verdict.CONTINUE, progress=progress, checkpoint_every_steps=4, looking=looking,
    )  # fmt: skip


def record_of(trial: TrialConfig, store: Store) -> TrialRecord:
    record = store.read_record(trial_key(trial))
    assert record is not None
    return record


@pytest.mark.parametrize("values", [{}, DROPOUT], ids=["pruned", "dropout"])
def test_looks_leave_a_training_bit_for_bit_as_it_is(
    values: dict[str, Any], tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    trial = trial_with(parse_sweep(tree, "test").trial, values)
    key = trial_key(trial)
    plain, looked, resumed = (new_store(tree, tmp_path / name) for name in ("plain", "looked", "resumed"))
    assert run(trial, plain, assets, None) == "completed"
    told, looks = Told(), {"looks": [0.1, 0.25, 0.6]}
    assert run(trial, looked, assets, told, **looks) == "completed"
    assert told.looks == [(1, False), (3, False), (6, False), (7, False)]  # the milestone among them
    assert results(trial, looked) == results(trial, plain)
    record = record_of(trial, looked)
    assert [(each.step, each.share) for each in record.looks] == [(n, n / 12) for n in (1, 3, 6, 7)]
    assert all(each.loss.num_examples == 5 for each in record.looks)
    outcomes = looked.read_outcomes(key, "6")
    milestone = looked.read_look(key, 6)
    assert outcomes is not None
    assert milestone is not None
    assert milestone.loss_sums == outcomes.loss_sums[:5]
    assert milestone.look.decision == Decision.model_validate(STOPS | {"stops": False})
    assert record.stopped_at is None
    assert any("looks" in line.get("evaluation_seconds", {}) for line in looked.read_log(key))

    told = Told()
    with pytest.raises(KilledError):
        run(trial, resumed, assets, told, killed_at(7), **looks)
    assert run(trial, resumed, assets, told, **looks) == "completed"
    # It goes on from the milestone: what was decided there is repeated, not decided anew.
    assert told.looks == [(1, False), (3, False), (6, False), (6, True), (7, False)]
    assert results(trial, resumed) == results(trial, plain)
    assert record_of(trial, resumed).looks == record.looks


def test_a_trial_that_is_stopped_says_by_whom_and_repeats_it(
    tree: dict[str, Any], store: Store, assets: AssetCache
) -> None:
    trial = parse_sweep(tree, "test").trial
    key = trial_key(trial)
    with pytest.raises(KilledError):
        run(trial, store, assets, _killing(Told(7)), looks=[0.1, 0.6])
    assert store.read_record(key) is None
    # Whoever had decided otherwise by now is not asked.
    told = Told()
    assert run(trial, store, assets, told, looks=[0.1, 0.6]) == "stopped"
    assert told.looks[-1] == (7, True)
    record = record_of(trial, store)
    assert record.status == "stopped"
    assert [each.name for each in record.candidates] == ["6"]
    assert record.stopped_at is not None
    assert record.stopped_at.step == 7
    assert record.stopped_at.decision == Decision.model_validate(STOPS)
    assert record.stopped_at.decision.words == "beaten by other"
    assert store.checkpoints(key) == []
    assert any(line.get("look", {}).get("beaten_by") == ["other"] for line in store.read_log(key))


def _killing(told: Told) -> Judge:
    """Dies once its decision is in the store, before the trial can end by it."""
    write = Store.write_look

    def judge(stored: StoredLook, is_decided: bool) -> dict[str, Any] | None:
        decision = told(stored, is_decided)
        if decision is not None and decision["stops"]:

            def writes(store: Store, key: str, look: StoredLook) -> None:
                write(store, key, look)
                Store.write_look = write  # type: ignore[method-assign]
                raise KilledError

            Store.write_look = writes  # type: ignore[method-assign]
        return decision

    return judge


@pytest.mark.parametrize("step", [6, 7], ids=["milestone", "look"])
def test_a_trial_that_is_paused_goes_on_as_if_it_had_not_been(
    step: int, tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    trial = parse_sweep(tree, "test").trial
    key = trial_key(trial)
    plain, paused = (new_store(tree, tmp_path / name) for name in ("plain", "paused"))
    looks: dict[str, Any] = {"looks": [0.1, 0.6], "then": "pause"}
    assert run(trial, plain, assets, Told(), **looks) == "completed"
    assert run(trial, paused, assets, Told(step), **looks) == "stopped"
    assert len(paused.checkpoints(key)) == 1
    stopped = record_of(trial, paused)
    goes_on = GoesOn(step=step, decision=Decision(stops=False))
    assert goes_on.is_due(stopped)
    paused.write_goes_on(key, goes_on)
    assert run(trial, paused, assets, Told(), **looks) == "completed"
    assert not goes_on.is_due(record_of(trial, paused))
    assert results(trial, paused) == results(trial, plain)
    assert record_of(trial, paused).looks[: len(stopped.looks)] == stopped.looks
    assert paused.checkpoints(key) == []


def too_many(*_: Any, **__: Any) -> Outcomes:
    raise TooLittleMemoryError("one example is too many")


def diverged(*_: Any, **__: Any) -> Outcomes:
    return Outcomes(loss_sums=[1.0, math.nan], num_targets=[1, 1], scores={})


@pytest.mark.parametrize(
    ("found", "why"),
    [(too_many, "one example is too many"), (diverged, "validation loss on 5 examples is nan")],
    ids=["memory", "nan"],
)
def test_a_look_that_cannot_be_taken_is_left_out(
    found: Callable[..., Outcomes],
    why: str,
    tree: dict[str, Any],
    store: Store,
    assets: AssetCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evaluated(*given: Any, fit: Fit, **more: Any) -> Outcomes:
        fit.evaluation_halvings += 1
        return found(*given, **more)

    monkeypatch.setattr(few_examples, "evaluate", evaluated)
    trial, told = parse_sweep(tree, "test").trial, Told()
    assert run(trial, store, assets, told) == "completed"
    assert told.looks == [(6, False)]
    lines = store.read_log(trial_key(trial))
    assert {"step": 1, "look": {"left_out": why}} in lines
    fit = record_of(trial, store).fit
    assert fit is not None
    assert fit.evaluation_halvings == 0, "later evaluations are as they were without it"


def test_looks_fall_on_the_nearest_steps_but_not_into_branches_or_on_candidates() -> None:
    assert look_steps([0.1, 0.24, 0.5], Course(20, 0.0, "linear", None, [10])) == {2, 5}
    assert look_steps([0.1, 0.9], Course(2, 0.0, "linear")) == set()
    ladder = Ladder(
        "mean_rank", (2.0, 1.0), 0.5, None, "one_shot", None, None, "branch", None, None, 0.4, "kept",
    )  # fmt: skip
    course = Course(20, 0.0, "linear", ladder)
    assert [(rung.begin, rung.branch, rung.end) for rung in course.rungs] == [(0, 6, 10), (10, 13, 15), (15, 18, 20)]
    assert look_steps([0.1, 0.4, 0.5, 0.7], course) == {2, 6, 13}


def _worker(rank: int, uri: str, tree: dict[str, Any], rendezvous: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    trial, store = parse_sweep(tree, "test").trial, Store(uri)
    told = Told(7)
    status = run(trial, store, AssetCache(CPU), told, workers=Workers(rank, 2, CPU), looks=[0.1, 0.6])
    is_right = status == "stopped" and told.looks == ([(1, False), (6, False), (7, False)] if rank == 0 else [])
    os._exit(0 if is_right else 3)


@pytest.mark.slow
def test_two_workers_stop_together(tree: dict[str, Any], store: Store, assets: AssetCache, tmp_path: Path) -> None:
    assert run_ranks(_worker, 2, store.uri, tree, str(tmp_path / "rendezvous")) == [0, 0]
    record = record_of(parse_sweep(tree, "test").trial, store)
    assert record.stopped_at is not None
    assert record.stopped_at.step == 7
    assert record.environment.num_workers == 2
