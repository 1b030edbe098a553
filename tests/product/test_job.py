"""As on a cluster: `ray start --head`, then the README's `ray job submit`."""

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.product.conftest import ROOT
from tests.tiny import sweep_tree

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """What both sides need in the environment: a token, since a cluster may run any code that is sent to it."""
    (tmp_path / "token").write_text(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}


@pytest.fixture
def dashboard(variables: dict[str, str]) -> Iterator[str]:
    """The address of a head node's dashboard; the cluster ends with the test (`ray stop` would end others' too)."""
    port, ray_port, agent_port = free_port(), free_port(), free_port()
    start = [
        str(BIN / "ray"), "start", "--head", "--node-ip-address=127.0.0.1", f"--port={ray_port}", "--num-cpus=2",
        "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--disable-usage-stats",
        # The agent takes the jobs; its own port is the same for every Ray of a machine.
        f"--dashboard-agent-listen-port={agent_port}",
        "--object-store-memory=200000000", "--block",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"HF_HUB_OFFLINE": "1", "PATH": f"{BIN}:{environment['PATH']}", **variables}
    head = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/jobs/", head)
        yield f"http://127.0.0.1:{port}"
    finally:
        # `ray start --block` takes half a minute to end its processes one after the other.
        processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
        for process in processes:
            # A worker whose raylet has gone ends by itself, perhaps between the listing and this line.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=60)
        head.wait()


def _wait_for(url: str, head: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert head.poll() is None, "ray start ended"
        try:
            urllib.request.urlopen(url, timeout=5)
        except urllib.error.HTTPError:  # it is up, and lets nobody in without the token
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(url)


def test_ray_job_submit(
    dashboard: str, variables: dict[str, str], tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    readme = re.search(r"^ray job submit .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert readme is not None
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(yaml.safe_dump(sweep_tree(tmp_path, "runs/tiny")))
    store = tmp_path / "store"
    command = readme[0].replace("search_spaces/quickstart.yaml", str(sweep)).replace("/shared/quickstart", str(store))
    words = command.replace("ray job submit", f"job submit --address {dashboard}").split()
    done = run(str(BIN / "ray"), *words, timeout=400, variables=variables)
    assert "succeeded" in done.stdout
    assert "Trials: 0 kept, 0 resumed, 3 new, 0 failed" in done.stdout
    assert (store / "report" / "front.json").exists()
    assert (store / "recommended" / "adapter_config.json").exists()
