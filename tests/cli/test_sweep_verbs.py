"""search and train where a sweep cannot even begin."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.cli.sweep_verbs import NEEDED

ROOT = Path(__file__).parents[2]
HIDING = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            {how}

sys.meta_path.insert(0, Hidden())
sys.modules.update({blocked})
sys.argv = ["prunedlora", *{arguments}]
from prunedlora.cli import app
app()
"""


def run_without(hidden: set[str], *arguments: str, blocked: bool) -> subprocess.CompletedProcess[str]:
    """The command in a process that has no such packages: their names are blocked, or an import hook refuses them."""
    code = HIDING.format(
        hidden=hidden,
        how="return None" if blocked else "raise ModuleNotFoundError(name)",
        blocked=dict.fromkeys(hidden) if blocked else {},
        arguments=list(arguments),
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("verb", "hidden", "blocked", "message"),
    [
        ("search", {"ray"}, True, 'search and train need ray: pip install "ray[default,train,tune]"'),
        ("train", {"optuna"}, False, 'search and train need optuna: pip install "optuna"'),
        (
            "search",
            {"ray", "optuna"},
            False,
            'search and train need ray and optuna: pip install "ray[default,train,tune]" "optuna"',
        ),
    ],
)
def test_without_ray_or_optuna_it_says_what_to_install(
    verb: str, hidden: set[str], blocked: bool, message: str, tmp_path: Path
) -> None:
    storage = tmp_path / "store"
    asked = [verb, "search_spaces/quickstart.yaml", "--storage", str(storage), "--dry-run"]
    done = run_without(hidden, *asked, blocked=blocked)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr == f"error: {message}\n"
    assert not storage.exists()


def test_what_it_says_to_install_is_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {requirement.partition(">=")[0] for requirement in project["dependencies"]}
    assert set(NEEDED.values()) <= asked


def test_verbs_that_read_a_store_do_not_ask_for_them(tmp_path: Path) -> None:
    done = run_without({"ray", "optuna"}, "report", str(tmp_path), blocked=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path} is no store: it has no sweep.yaml\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models/my/llama", r"error: model 'models/my/llama' is neither a folder here \(looked for .*\) nor a name on"),
        (
            "my/llama",
            r"error: cannot load the .* of model 'my/llama' \(no folder here, so a name on the Hub; looked for .*\): "
            "HF_HUB_OFFLINE is set, and this machine's cache does not have it",
        ),
    ],
)
def test_a_base_model_that_is_not_there(name: str, message: str, tmp_path: Path) -> None:
    """A relative folder that is misspelt is not told as trouble with the Hub alone."""
    options = ["--set", f"trial.model.name={name}", "--dry-run", "--storage", str(tmp_path / "store")]
    result = CliRunner().invoke(app, ["search", str(ROOT / "search_spaces/quickstart.yaml"), *options])
    assert result.exit_code == 2, result.output
    assert re.match(message, result.stderr)
    assert not (tmp_path / "store").exists()
