"""A cluster of several raylets on one machine: a node that comes gets a slot, one that dies gives its trial back."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from prunedlora.results.store import Store
from tests import tiny
from tests.product.conftest import ROOT
from tests.product.test_job import BIN, free_port, variables

__all__ = ["variables"]

SWEEP = """
import sys, time
from pathlib import Path
import ray
from rich.console import Console
from ray import cloudpickle
from prunedlora.config.load import load_sweep
from prunedlora.sweep.run import run_sweep
from tests import inventions

cloudpickle.register_pickle_by_value(inventions)
sweep, log, gone = sys.argv[1:]

def execute(work, bench):
    # Which node does what, and when.
    node = ray.get_runtime_context().get_node_id()
    with open(log, "a") as lines:
        lines.write(f"{time.time()} {node} {work['kind']} {work['key']}\\n")
    while work["kind"] == "trial" and not Path(gone).exists():
        time.sleep(0.1)
    return inventions.pretend(work, bench)

config = load_sweep(Path(sweep))
result = run_sweep(config, config.storage, console=Console(width=300), execute=execute)
print("RESULT", result.ending, result.num_new, result.num_failed, result.problems, flush=True)
"""

SOON_NOTICED = {"RAY_health_check_period_ms": "500"}
"""Milliseconds between two looks of Ray's whether a node is there; after five in vain it is not."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def start_node(tmp_path: Path, variables: dict[str, str]) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts `ray start` with some arguments; all that were started end with the test."""
    nodes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        command = [
            str(BIN / "ray"), "start", *arguments, "--num-cpus=1", "--disable-usage-stats", "--block",
            "--object-store-memory=100000000", f"--dashboard-agent-listen-port={free_port()}",
        ]  # fmt: skip
        environment |= {"PATH": f"{BIN}:{environment['PATH']}", "PYTHONPATH": str(ROOT), **SOON_NOTICED, **variables}
        with (tmp_path / "ray.txt").open("ab") as text:
            nodes.append(subprocess.Popen(command, env=environment, stdout=text, stderr=text))
        return nodes[-1]

    yield start
    for node in nodes:
        kill(node)


def kill(node: "subprocess.Popen[bytes]") -> None:
    """A node that is gone from one moment to the next, with all its processes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=60)
    node.wait()


def test_a_node_that_comes_gets_a_slot_and_one_that_dies_gives_its_trial_back(
    start_node: Callable[..., "subprocess.Popen[bytes]"], variables: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    start_node("--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false")
    deadline = time.monotonic() + 120
    while "Ray runtime started" not in (tmp_path / "ray.txt").read_text():
        assert time.monotonic() < deadline, (tmp_path / "ray.txt").read_text()
        time.sleep(0.5)
    tree = tiny.sweep_tree(tmp_path / "tiny", tmp_path / "store") | {"num_trials": 6}
    tree["trial"]["seed"] = 100  # seconds / 1000 of a pretended trial; none dies by itself
    sweep, log, text = tmp_path / "sweep.yaml", tmp_path / "log.txt", tmp_path / "sweep.txt"
    gone = tmp_path / "gone"  # until it is there every trial waits
    sweep.write_text(yaml.safe_dump(tree))
    log.touch()
    script = tmp_path / "driver.py"
    script.write_text(SWEEP)
    environment = os.environ | {"RAY_ADDRESS": f"127.0.0.1:{port}", "PYTHONPATH": str(ROOT), **variables}

    def seen(done: Callable[[list[list[str]]], bool], what: str) -> list[list[str]]:
        deadline = time.monotonic() + 300
        while True:
            lines = [line.split(" ") for line in log.read_text().splitlines()]
            if done(lines):
                return lines
            assert driver.poll() is None, text.read_text()
            assert time.monotonic() < deadline, f"{what}: {lines}\n{text.read_text()}"
            time.sleep(0.2)

    with text.open("w") as output:
        driver = subprocess.Popen(
            [sys.executable, str(script), str(sweep), str(log), str(gone)],
            env=environment,
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    try:
        lines = seen(lambda lines: len(lines) > 0, "the first slot works")
        first = lines[0][1]
        second_node = start_node(f"--address=127.0.0.1:{port}", "--node-ip-address=127.0.0.1")
        lines = seen(lambda lines: lines[-1][1] != first and lines[-1][2] == "trial", "the new node works")
        key = lines[-1][3]
        kill(second_node)
        killed = time.time()
        gone.touch()
        lines = seen(lambda lines: any(line[3] == key and line[1] == first for line in lines), "its trial goes on")
        [taken] = [float(line[0]) for line in lines if line[3] == key and line[1] == first]
        assert taken - killed < 60
        print(f"taken by another slot {taken - killed:.1f} s after the node was killed")
        driver.wait(timeout=400)
    finally:
        driver.kill()
        driver.wait()
    assert "RESULT all trials are done 6 0 ()" in text.read_text()
    assert {record.status for record in Store(str(tmp_path / "store")).records()} == {"completed"}
