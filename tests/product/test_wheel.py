"""The package as pip installs it, built without network: all of prunedlora/ but the benchmarks of the product."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.product.conftest import ROOT

PRODUCT = Path("prunedlora/benchmarks/product")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel. Built of a copy: setuptools would leave its build folder in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "prunedlora", source / "prunedlora", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*build, "-w", str(folder), str(source)], check=True, timeout=120)
    (wheel,) = folder.glob("prunedlora-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def benchmark(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prunedlora.benchmarks", *arguments]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, timeout=60)


def files(folder: Path) -> set[Path]:
    found = (path for path in (folder / "prunedlora").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder) for path in found}


@pytest.mark.slow
def test_what_is_in_it(installed: Path) -> None:
    ours = files(ROOT)
    product = {path for path in ours if PRODUCT in path.parents}
    assert PRODUCT / "coverage.py" in product
    assert files(installed) == ours - product


@pytest.mark.slow
def test_benchmarks_of_it(installed: Path) -> None:
    """Those for one's own model and data are there; of the others it says where they are."""
    shown = benchmark(installed, "accuracy", "--help")
    assert shown.returncode == 0, shown.stderr
    missing = benchmark(installed, "coverage")
    assert missing.returncode == 2
    assert (
        "no benchmark 'coverage' is installed, but accuracy, ladder: those that measure prunedlora itself come with "
        "its repository alone (in a checkout: pip install -e .)"
    ) in " ".join(missing.stderr.replace("│", " ").split())
