"""shrink: which options go together, and what it needs, before anything is read. What they make is in sweep/."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from tests.cli.test_sweep_verbs import run_without

REFUSED = {
    "steps without data": (["--steps", "0"], "--steps has no effect without --data"),
    "others without data": (
        ["--metric", "loss", "--storage", "s", "--dry-run"],
        "--metric, --storage, --dry-run have no effect without --data",
    ),
    "blind options": (["--data", "d.json", "--json", "--layers"], "--layers, --json have no effect beside --data"),
    "a rate without steps": (
        ["--data", "d.json", "--steps", "0", "--learning-rate", "1e-3", "--num-workers", "2"],
        "--learning-rate, --num-workers have no effect with --steps 0",
    ),
    "layers of json": (["--json", "--layers"], "--layers has no effect beside --json"),
    "no number of steps": (
        ["--data", "d.json", "--steps=-1"],
        "Invalid value for '--steps'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_have_no_effect_together(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, message = REFUSED[case]
    monkeypatch.setenv("COLUMNS", "300")
    result = CliRunner().invoke(app, ["shrink", "adapter", *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_help_says_what_seen_data_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = " ".join(CliRunner().invoke(app, ["shrink", "--help"]).stdout.replace("│", " ").split())
    assert "Data that the adapter was trained on make it look better than it is." in shown


@pytest.mark.slow
def test_steps_need_ray_and_cuts_do_not(tmp_path: Path) -> None:
    asked = ["shrink", str(tmp_path / "adapter"), "--data", "rows.json"]
    done = run_without({"ray", "optuna"}, *asked, blocked=True)
    assert done.returncode == 2
    assert done.stderr == (
        'error: shrink with steps needs ray and optuna: pip install "ray[default,train,tune]" "optuna"; '
        "--steps 0, which only cuts, needs neither\n"
    )
    done = run_without({"ray", "optuna"}, *asked, "--steps", "0", blocked=True)
    assert done.returncode == 2
    assert f"error: adapter '{tmp_path}/adapter' does not exist" in done.stderr  # bitsandbytes may have said something
