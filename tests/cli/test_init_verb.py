"""init: which options go together, and that what it prints is the next command."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from tests.tiny import make_data, make_model

REFUSED = {
    "half of the templates": (["--prompt", "{a}"], "--prompt and --target go together"),
    "templates and a format": (
        ["--prompt", "{a}", "--target", "{b}", "--format", "alpaca"],
        "--format has no effect beside --prompt and --target",
    ),
    "a format of classes": (
        ["--format", "text", "--task", "text_classification"],
        "--format has no effect with --task text_classification",
    ),
    "an empty storage": (["--storage", " "], "--storage is empty"),
    "no data": (["--data", ""], "--data is empty"),
    "no model": (["--model", " "], "--model is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_have_no_effect_together(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, message = REFUSED[case]
    monkeypatch.setenv("COLUMNS", "300")
    result = CliRunner().invoke(app, ["init", "--model", "m", "--data", "d.csv", *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.slow
def test_it_names_what_to_do_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "model"), make_data(tmp_path / "rows.csv")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["init", "--model", "./model", "--data", "rows.csv", "--no-gpu"])
    assert result.exit_code == 0, result.output
    assert "next: prunedlora search rows-here.yaml --dry-run" in result.stdout
    again = CliRunner().invoke(app, ["init", "--model", "./model", "--data", "rows.csv"])
    assert again.exit_code == 2
    assert "rows-here.yaml exists, and is not written over: give another as -o" in again.stderr
