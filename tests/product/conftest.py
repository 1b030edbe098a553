"""One real sweep with the pretrained model, by the README's command; the tests of this folder look at what it left."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pytest
from filelock import FileLock

from tests.hidden_packages import HIDE

ROOT = Path(__file__).parents[2]
QUICK = [
    "num_trials=2",
    "trial.training.num_steps=15",
    "trial.evaluation.max_examples=100",
    "trial.data.num_test=200",
]
"""Cuts the quickstart down to a sweep of three short trials, two of them ladders."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """test_sweep.py looks at the sweep that test_readme.py's process runs, and another process would only wait for it:
    its turn comes when the sweep is long over, before the trials, whose many files fill both processes to the end."""
    last = [item for item in items if item.path == Path(__file__).with_name("test_sweep.py")]
    others = [item for item in items if item not in last]
    trials = (i for i, item in enumerate(others) if item.path.parent == ROOT / "tests" / "trial")
    at = next(trials, len(others))
    items[:] = [*others[:at], *last, *others[at:]]


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command as a user would, from the repository root if not from `cwd`; fails the test when the exit code
    is another."""

    def run(
        *command: str,
        code: int = 0,
        timeout: float = 300,
        variables: Mapping[str, str] = MappingProxyType({}),
        cwd: Path = ROOT,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", **variables}
        for name in ("RAY_ADDRESS", "OMP_NUM_THREADS"):  # that of the tests
            environment.pop(name, None)
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == code, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    return run


@pytest.fixture(scope="session")
def run_without(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command in a Python that has neither Ray nor Optuna."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return partial(run, variables={"PYTHONPATH": path})


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder for all processes of these tests."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def quick_command(shared: Path) -> list[str]:
    """The README's first command, cut short and with a storage of its own."""
    storage = shared / "runs" / "quickstart"
    overrides = [part for override in QUICK for part in ("--set", override)]
    command = ["jobs/search.py", "search_spaces/quickstart.yaml", "--storage", str(storage), *overrides]
    return [sys.executable, *command]


@pytest.fixture(scope="session")
def sweep_output(run: Callable[..., subprocess.CompletedProcess[str]], quick_command: list[str], shared: Path) -> str:
    """What the sweep printed; one process runs it, the others wait."""
    output = shared / "sweep.txt"
    with FileLock(shared / "sweep.lock"):
        if not output.exists():
            output.write_text(run(*quick_command).stdout)
    return output.read_text()


@pytest.fixture(scope="session")
def storage(sweep_output: str, quick_command: list[str]) -> Path:
    """The finished sweep's store."""
    return Path(quick_command[quick_command.index("--storage") + 1])


STORES = sorted(folder for folder in (ROOT / "tests" / "stores").iterdir() if folder.is_dir())
"""Sweeps that earlier versions left, each a folder `store` beside its `sweep.yaml`."""


@pytest.fixture(params=STORES, ids=lambda folder: folder.name)
def old_sweep(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A sweep file of an earlier version, and a copy of the store that its sweep left."""
    folder: Path = request.param
    shutil.copytree(folder / "store", tmp_path / "store")
    return folder / "sweep.yaml", tmp_path / "store"
