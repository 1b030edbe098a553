"""A confirmation in this process: what it leaves, that it goes on where it was killed, and that a sweep goes on too."""

import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.load import parse_sweep
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.driver_lock import DriverLock, DriverLockedError
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep import here_run
from prunedlora.sweep.confirm_here import confirm_here
from prunedlora.sweep.confirm_open import open_confirmation, print_confirmation_plan
from prunedlora.sweep.confirm_plan import ConfirmError, Request
from prunedlora.sweep.here_progress import HereProgress
from prunedlora.sweep.run_here import run_here
from prunedlora.trial.execute import execute_trial
from tests import tiny

CPU = torch.device("cpu")
REQUEST = Request(num_seeds=2, most_seeds=3, within=0.0)
OF_ATTEMPTS = {"train_seconds", "evaluation_seconds", "tokens_per_second", "attempts", "environment"}


class KilledError(BaseException):
    """What no part of the product catches."""


def tree_of(folder: Path, storage: Path) -> dict[str, Any]:
    """Two trainings of plain LoRA: a small one that learns nothing, and a large one that learns, a cut of it too."""
    tree = tiny.sweep_tree(folder, storage)
    trial = tree["trial"]
    del trial["pruning"]
    trial["adapter"]["method"] = "lora"
    trial["training"] = {"num_steps": 16, "batch_size": 16}
    trial["optimizer"] |= {"learning_rate": 0.03, "head_learning_rate": 0.03}
    trial["evaluation"] = {"metric": "accuracy"}
    small = {
        "label": "small", "adapter.initial_rank": 1, "adapter.alpha": 1, "optimizer.learning_rate": 1e-6,
        "optimizer.head_learning_rate": 1e-6,
    }  # fmt: skip
    return tree | {"num_trials": 0, "space": {}, "baselines": [{"label": "large"}, small], "recommend_within": 0.9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def swept(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("swept") / "store"
    config = parse_sweep(tree_of(folder, place), "test")
    run_here(config, config.storage, console=Console(file=io.StringIO()), device=CPU)
    return place


def confirm(place: Path, request: Request = REQUEST, **options: Any) -> tuple[int, str]:
    text = io.StringIO()
    status = confirm_here(str(place), request, console=Console(file=text, width=300), device=CPU, **options)
    return status, text.getvalue()


@pytest.fixture(scope="module")
def confirmed(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("confirmed") / "store"
    shutil.copytree(swept, place)
    status, text = confirm(place)
    assert status == 0, text
    return place, text


@pytest.fixture
def place(swept: Path, tmp_path: Path) -> Path:
    shutil.copytree(swept, tmp_path / "store")
    return tmp_path / "store"


def summary_of(place: Path) -> Summary:
    return summarize(Store(str(place)))


def fresh(place: Path) -> dict[str, Any]:
    """Key → record of all fresh trainings, without what two equal trainings differ in."""
    records: list[TrialRecord] = Store(str(place)).records()
    return {record.key: timeless(record.model_dump(mode="json")) for record in records if record.label is None}


def timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: timeless(value) for name, value in content.items() if name not in OF_ATTEMPTS}
    return [timeless(each) for each in content] if isinstance(content, list) else content


def test_fresh_trainings_stand_beside_the_decision(swept: Path, confirmed: tuple[Path, str]) -> None:
    place, text = confirmed
    before, after = summary_of(swept), summary_of(place)
    assert before.recommended is not None
    assert before.best is not None
    assert before.recommended.name != before.best.name
    # The one answer is the same: fresh draws of the same settings are no candidates.
    assert [point.name for point in after.points] == [point.name for point in before.points]
    assert after.recommended is not None
    assert after.recommended.name == before.recommended.name
    assert after.exported is not None
    [found] = after.confirmations
    assert found.is_over
    assert (found.plan.candidates, found.plan.against) == (
        (before.recommended.name, before.best.name), before.best.name
    )  # fmt: skip
    assert (found.plan.seeds, found.plan.looks, found.plan.within) == ((1, 2, 3), (2, 3), 0.0)
    assert found.plan.names == ("recommended", "best")
    kinds = [ask.kind for ask in after.asks]
    assert kinds == ["baseline"] * 2 + ["confirm"] * (len(kinds) - 2)
    for result in found.results:
        assert {point.record.config["seed"] for point in result.points} <= {1, 2, 3}
        assert len(result.test) == len(result.points) >= 2  # each on test, once
        assert f"{result.name}: accuracy {result.mean:.3f} ± " in text
    assert "Trainings: 0 kept, 4 to come, 64 steps, about " in text
    assert "than " + before.best.name in text


def test_again_trains_nothing_and_says_the_same(confirmed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    place, text = confirmed
    for name in ("execute_trial", "measure_test"):
        monkeypatch.setattr(here_run, name, lambda *_, **__: pytest.fail("nothing is left"))
    status, again = confirm(place)
    assert status == 0
    assert "Trainings: 0 new; all planned trainings are done." in again
    said = [line for line in text.splitlines() if ": accuracy " in line and line.count("@") > 1]
    assert said
    assert all(line in again for line in said)
    assert len(summary_of(place).plans) == 1


def test_another_of_the_same_adapters_is_said_before_anything_is_trained(confirmed: tuple[Path, str]) -> None:
    place, _ = confirmed
    text = io.StringIO()
    request = Request(names=("best", "recommended"), num_seeds=2, within=0.01)
    opened = open_confirmation(str(place), request)
    print_confirmation_plan(opened, Console(file=text, width=300))
    assert (
        "Confirmation 0, finished, is of the same adapters: 3 seeds, at most 0 worse, 95% confidence. This is another, "
        "with seeds of its own; the first is the one to believe" in text.getvalue()
    )


def test_a_sweep_goes_on_beside_it(confirmed: tuple[Path, str], folder: Path) -> None:
    """Nothing of it is trained again, or told as its own."""
    place, _ = confirmed
    config = parse_sweep(tree_of(folder, place), "test")
    num = len(Store(str(place)).asks())
    result = run_here(config, config.storage, console=Console(file=io.StringIO()), device=CPU)
    assert (result.exit_code, result.num_new) == (0, 0)
    assert len(Store(str(place)).asks()) == num
    assert len(result.summary.confirmations) == 1


@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_killed_and_resumed_is_as_uninterrupted(
    after: int, place: Path, confirmed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a candidate of the first training, and of the third, before anything more is written."""

    def kill() -> None:
        raise KilledError

    stop_after(monkeypatch, after, kill)
    with pytest.raises(KilledError):
        confirm(place)
    monkeypatch.undo()
    assert len(summary_of(place).plans) == 1
    status, text = confirm(place)
    assert status == 0
    assert "goes on): " in text
    assert fresh(place) == fresh(confirmed[0])
    assert [ask.key for ask in Store(str(place)).asks()] == [ask.key for ask in Store(str(confirmed[0])).asks()]


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, end: Callable[[], Any]) -> None:
    found, left = HereProgress.found, [count]

    def told(progress: HereProgress, content: dict[str, Any]) -> None:
        found(progress, content)
        left[0] -= 1
        if left[0] == 0:
            end()

    monkeypatch.setattr(HereProgress, "found", told)


def test_ctrl_c_ends_it_cleanly(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    status, text = confirm(place)
    assert status == 130
    assert "Open: 2 trainings of each are to tell." in text
    assert text.splitlines()[-1] == "Run the same command again to go on."
    assert not summary_of(place).confirmations[0].is_over


def test_a_failed_training_counts_against_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = summary_of(place).best
    assert best is not None

    def diverging(trial: Any, key: str, **options: Any) -> str:
        if trial.adapter.initial_rank == 1 and trial.seed == 1:
            optimizer = trial.optimizer.model_copy(update={"learning_rate": 1e30, "head_learning_rate": 1e30})
            trial = trial.model_copy(update={"optimizer": optimizer})
        return execute_trial(trial, key, **options)

    monkeypatch.setattr(here_run, "execute_trial", diverging)
    status, text = confirm(place)
    assert status == 0
    assert "1 of 2 fresh trainings failed (NonFiniteError: loss is nan at step 1" in text
    assert "Not confirmed: a fresh training of it failed." in text
    [found] = summary_of(place).confirmations
    assert [result.num_ended for result in found.results] == [2, 2]
    assert found.results[0].statement is not None
    assert found.results[0].statement.verdict == "failed"


def test_what_cannot_be_confirmed_is_refused_before_anything_starts(place: Path, folder: Path) -> None:
    with pytest.raises(ConfirmError, match=r"--seeds 0: at least 1"):
        confirm(place, Request(num_seeds=0))
    with pytest.raises(ConfirmError, match=r"resources.num_workers 2: this process is one, leave out --here"):
        confirm(place, overrides=["resources.num_workers=2"])
    with DriverLock(Store(str(place)).storage), pytest.raises(DriverLockedError, match="a second driver is refused"):
        confirm(place)
    data = folder / "data.csv"
    kept = data.read_text()
    try:
        data.write_text(kept + "alpha,front\n")
        runner = CliRunner().invoke(app, ["confirm", str(place), "--here"])
        assert runner.exit_code == 2
        assert "changed since this sweep began" in " ".join(runner.output.split())
        data.unlink()
        runner = CliRunner().invoke(app, ["confirm", str(place), "--here"])
        assert "data.csv" in runner.output
        assert runner.exit_code == 2
    finally:
        data.write_text(kept)
    assert summary_of(place).plans == []


def test_the_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def invoke(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["confirm", str(place), *options])
        return done.exit_code, " ".join(done.output.split())

    status, output = invoke("--here", "--dry-run", "--seeds", "2", "--device", "cpu")
    assert (status, summary_of(place).plans) == (0, [])
    assert "2 fresh seeds: 1, 2, the same for all; looked at after 2 Trainings: 0 kept, 4 to come, 64 steps" in output
    assert "--device has no effect without --here" in invoke("--device", "cpu")[1]
    refused = invoke("--here", "--set", "trial.seed=3")
    assert refused[0] == 2
    assert "--set trial.seed=3: a confirmation trains what was trained; it takes resources." in refused[1]
    assert (
        "--set retention.adapters=front: it has no effect here"
        in invoke("--here", "--set", "retention.adapters=front")[1]
    )
    assert "has no trial 'nothing'" in invoke("--here", "nothing")[1]
