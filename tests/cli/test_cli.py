"""The command as a whole: its version, its help, its completion, and that none of them waits for torch."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import prunedlora
from prunedlora.cli import app

ROOT = Path(__file__).parents[2]
STORE = ROOT / "tests/stores/376ef23/store"
VERBS = (
    "search",
    "train",
    "plan",
    "show-data",
    "report",
    "recommend",
    "confirm",
    "test",
    "compare",
    "export",
    "serving",
    "latency",
    "harness",
)


def python(*arguments: str) -> str:
    """Standard output of a process of its own."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_is_one_everywhere() -> None:
    """In the package, on the command line, under `python -m`, and in what pip installs, which reads it off the file."""
    version = prunedlora.__version__
    assert CliRunner().invoke(app, ["--version"]).stdout == f"prunedlora {version}\n"
    assert python("-m", "prunedlora", "--version") == f"prunedlora {version}\n"
    assert importlib.metadata.version("prunedlora") == version
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert tree["project"]["dynamic"] == ["version"]
    assert tree["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "prunedlora.__version__"}


def test_types_are_shipped() -> None:
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in tree["tool"]["setuptools"]["package-data"]["prunedlora"]
    assert (Path(prunedlora.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from prunedlora.cli import app
try:
    app({arguments})
except SystemExit:
    print("heavy:", sorted({{"torch", "numpy", "ray", "optuna"}} & sys.modules.keys()))
"""
    assert python("-c", code).splitlines()[-1] == "heavy: []"


def test_the_shell_completes_verbs() -> None:
    """What the script that `--show-completion` prints asks the command for."""
    code = """
import os
os.environ |= {"_PRUNEDLORA_COMPLETE": "complete_bash", "COMP_WORDS": "prunedlora rep", "COMP_CWORD": "1"}
from prunedlora.cli import app
app(prog_name="prunedlora")
"""
    assert python("-c", code).split() == ["report"]


@pytest.mark.parametrize("arguments", [["report", str(STORE), "--to", "TO"], ["search", "--help"]])
def test_a_terminal_that_has_no_plus_minus(arguments: list[str], tmp_path: Path) -> None:
    """As in a container without a locale."""
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = [str(tmp_path) if word == "TO" else word for word in arguments]
    command = [sys.executable, "-m", "prunedlora", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ascii_only, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout
