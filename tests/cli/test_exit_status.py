"""The README's table of exit statuses: each is the one that a shell sees, and there is no other."""

import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.record import Candidate, Environment, Figure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep import run, signals
from prunedlora.sweep.outcome import SweepResult
from prunedlora.sweep.signals import TERMINATED

ROOT = Path(__file__).parents[2]
TABLE = dict(re.findall(r"^\| `(\d+)` \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
CUT = ["search", "search_spaces/quickstart.yaml", "--storage"]


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    """Of a store with one adapter."""
    store = Store(str(tmp_path / "store"))
    store.create_or_open({"objectives": {"accuracy": "maximize", "adapter_params": "minimize"}})
    candidate = Candidate(
        step=1, progress=1.0, figures={"accuracy": Figure(value=0.5, num_examples=2)}, ranks={"a": 1}, adapter_params=1,
        adapter_bytes=4, head_params=0, file_bytes=4, max_rank=1, train_seconds=0.0, tokens_seen=1, examples_seen=1,
    )  # fmt: skip
    record = TrialRecord(
        key="a1", config={}, status="completed", attempts=1, candidates=(candidate,), train_seconds=0.0,
        environment=Environment(packages={}, device="cpu", num_workers=1, model={}, data={}),
    )  # fmt: skip
    store.write_record(record, 1)
    return summarize(store)


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """status(what a sweep returns, or raises): exit status of `prunedlora search`."""

    def status(outcome: SweepResult | BaseException) -> int:
        def run_sweep(*_: Any, **__: Any) -> SweepResult:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(run, "run_sweep", run_sweep)
        return CliRunner().invoke(app, [*CUT, str(tmp_path / "new")]).exit_code

    return status


def test_a_sweep(summary: Summary, status: Callable[..., int]) -> None:
    fine = SweepResult(
        summary=summary, ending="all trials are done", num_kept=0, num_resumed=0, num_new=1, num_failed=3,
        num_repeats=0, startup_seconds=0.0, wall_seconds=0.0, problems=(),
    )  # fmt: skip
    nothing = replace(summary, points=[])
    assert status(fine) == 0
    assert status(replace(fine, ending="the time is up", summary=nothing)) == 0
    assert status(replace(fine, ending="the device hours are spent", summary=nothing)) == 0
    assert status(replace(fine, ending="the space is exhausted")) == 0
    assert status(replace(fine, summary=nothing)) == 1
    assert status(replace(fine, problems=("slot 1 was given up",))) == 1
    assert status(replace(fine, ending="interrupted")) == 130
    assert status(KeyboardInterrupt()) == 128 + signal.SIGINT == 130
    assert status(RuntimeError("a fault of ours")) == 1


def test_terminated(status: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves at once (test_killed_driver.py does it to a real one)."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(signals.os, "_exit", leave)
    assert status(SystemExit(TERMINATED)) == 128 + signal.SIGTERM == 143


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "no_such_file.yaml"],
        ["search", "search_spaces/quickstart.yaml", "--set", "trial.nothing=1"],
        ["train", "search_spaces/quickstart.yaml", "--storage", ""],
        ["report", "no/such/store"],
        ["report", "store", "--no-such-option"],
        ["export", "no/such/store", "--to", "x"],
    ],
)
def test_what_is_not_possible_as_asked(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "rror" in result.stderr  # "error: …" of ours, a box called Error of typer's
    assert "Traceback" not in result.stderr


def test_the_readme_has_these_and_no_other() -> None:
    assert list(TABLE) == ["0", "1", "2", "130", "143"]
    assert all(TABLE.values())
