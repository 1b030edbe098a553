"""Ctrl-C beside trainings and candidates: while cuts are chosen, and when the trials are over."""

import io
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.store import Store
from prunedlora.sweep import here_run as here_run_module
from prunedlora.sweep import run_here as run_here_module
from prunedlora.sweep.here_progress import HereProgress
from tests.inventions import invented_record
from tests.sweep.test_run_here import is_as, run, tree_of

CUTS = {"sizes": {"mean_rank": [3, 1]}, "bases": ["svd", "whitened"], "screen_examples": 8, "calibration_examples": 24}
GO_ON = "interrupted: what is in hand writes a checkpoint and goes on in the next run"


def config_of(folder: Path, storage: Path) -> SweepConfig:
    tree = tree_of(folder, storage)
    tree["trial"]["cuts"] = CUTS
    return parse_sweep(tree, "test")


@pytest.mark.parametrize(
    "at",
    [
        "passing training examples for basis whitened, 1 of",
        pytest.param("trying 2 of 4 on 8 examples", marks=pytest.mark.slow),
    ],
)
def test_cuts_that_are_chosen_end_at_once(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a checkpoint, from which the next run goes on as if nothing had been."""
    whole, config = (config_of(tmp_path, tmp_path / name) for name in ("whole", "store"))
    run(whole)
    choosing, heard = HereProgress.choosing, list[str]()

    def told(progress: HereProgress, what: str) -> None:
        choosing(progress, what)
        heard.append(what)
        if at in what and len(heard) < 20:
            heard.extend([""] * 20)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(HereProgress, "choosing", told)
    first, text = run(config)
    assert (first.exit_code, first.ending) == (130, "interrupted")
    assert GO_ON in text
    assert at in next(what for what in reversed(heard) if what), "nothing was done after it"
    store = Store(config.storage)
    [ask] = store.asks()
    assert (store.records(), len(store.checkpoints(ask.key))) == ([], 1)
    second, _ = run(config)
    assert (second.exit_code, second.num_resumed) == (0, 1)
    assert is_as(store, Store(whole.storage))


def test_no_time_is_told_while_cuts_are_chosen(tmp_path: Path) -> None:
    config = config_of(tmp_path, tmp_path / "store")
    progress = HereProgress(Console(file=io.StringIO(), width=200), "accuracy", 1, 0)
    content = invented_record("a", config.trial.model_dump(mode="json")).candidates[0].model_copy(update={"step": 4})
    progress.begin("a", None, config.trial, 0)
    for step in (1, 2, 3, 4):
        progress.stepped(step, 4)
    progress.evaluating("4")
    progress.found(content.model_dump(mode="json"))
    assert "about 0:0" in progress.line()
    progress.choosing("choosing cuts: trying 1 of 4 on 8 examples")
    assert progress.line() == (
        "choosing cuts: trying 1 of 4 on 8 examples, 0:00 elapsed, 1 of at most 6 candidates done"
    )
    progress.evaluating("4r1")
    assert "about 0:0" in progress.line()


@pytest.mark.parametrize("work", ["measure_base", "measure_test"])
def test_what_comes_after_the_trials_is_left_to_the_next_run(
    work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is written all the same."""
    config = parse_sweep(tree_of(tmp_path, tmp_path / "store"), "test")
    with monkeypatch.context() as patch:
        place = run_here_module if work == "measure_base" else here_run_module
        patch.setattr(place, work, lambda *_, **__: signal.raise_signal(signal.SIGINT))
        first, text = run(config)
    store = Store(config.storage)
    assert (first.exit_code, first.ending, first.num_new) == (130, "interrupted", 1)
    assert "interrupted: what is left is measured in the next run" in text
    assert "Run the same command again to go on." in text
    assert "Recommended: " in text
    assert (tmp_path / "store" / "report" / "report.html").is_file()
    assert (store.read_base() is None) == (work == "measure_base")
    assert store.read_exported() is None

    def never(*_: Any, **__: Any) -> str:
        pytest.fail("the trial is done")

    monkeypatch.setattr(here_run_module, "execute_trial", never)
    second, _ = run(config)
    assert (second.exit_code, second.num_kept) == (0, 1)
    assert store.read_base() is not None
    assert store.read_exported() is not None
