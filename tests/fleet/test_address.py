"""Where no Ray can be joined or started is told in words, within seconds."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import HTTPServer, SimpleHTTPRequestHandler

import grpc
import pytest
import ray

from prunedlora.fleet import address, cluster
from prunedlora.fleet.address import SOCKET_BYTES, ClusterError, check_address


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def page() -> Iterator[int]:
    """Port of a server that speaks HTTP, as a dashboard does."""
    with HTTPServer(("", 0), SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "127.0.0.1:6",
            r"RAY_ADDRESS=127.0.0.1:6: no Ray answers at .*:6 \(.*Connection refused\); give the host:port",
        ),
        ("no-host.invalid:6379", r"no Ray answers at no-host.invalid:6379 \(.*\); give the host:port of one that runs"),
        (
            "ray://head:10001",
            r"cannot run over ray://.*RAY_ADDRESS=http://head:8265\), or .* \(RAY_ADDRESS=head:6379\)",
        ),
        ("http://head:80", r"cannot run over http://.*`ray job submit` \(RAY_ADDRESS=http://head:80\), or run it on"),
        ("nonsense", "RAY_ADDRESS=nonsense is no address: give host:port, as head:6379, or auto"),
    ],
)
def test_addresses_where_no_ray_is(monkeypatch: pytest.MonkeyPatch, given: str, message: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    began = time.monotonic()
    with pytest.raises(ClusterError, match=message), cluster.connected():
        pass
    assert time.monotonic() - began < 5


def test_auto_where_no_ray_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(address.services, "canonicalize_bootstrap_address", nothing)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ClusterError, match="RAY_ADDRESS=auto: no Ray runs on this machine; start one"):
        check_address()


def test_auto_of_a_ray_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address stands in a file still."""
    monkeypatch.setattr(address.services, "canonicalize_bootstrap_address", lambda _: "127.0.0.1:6")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ClusterError, match=r"RAY_ADDRESS=auto: no Ray answers at 127.0.0.1:6 \("):
        check_address()


def test_the_port_of_another_server(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"localhost:{page}")
    with pytest.raises(ClusterError, match=rf"no Ray answers at .*:{page} \("):
        check_address()
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    monkeypatch.setenv("RAY_ADDRESS", f"localhost:{port}")
    with pytest.raises(ClusterError, match=r"another server is there; Ray's port is most often 6379"):
        check_address()
    server.stop(None)


def test_a_ray_that_runs_is_found(shared_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray._private.worker._global_node.gcs_address)
    check_address()


def test_a_folder_too_long_for_rays_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * 83)
    with pytest.raises(
        ClusterError, match=r"TMPDIR=/tmp/x+ is too long for the sockets of Ray.*at most \d\d, as /tmp"
    ) as error:
        check_address()
    most = int(str(error.value).rpartition(",")[0].rpartition(" ")[2])
    monkeypatch.setenv("RAY_TMPDIR", "/" + "é" * (most // 2 + 1))
    with pytest.raises(ClusterError, match=rf"^RAY_TMPDIR=/é+ is .*at most {SOCKET_BYTES} bytes"):
        check_address()
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (most - 1))
    check_address()


def test_the_longest_socket_is_where_ray_has_it(shared_ray: None) -> None:
    """The law that the length is worked out by."""
    path = ray._private.worker._global_node.plasma_store_socket_name
    folder, _, socket = path.partition("/ray/")
    assert len(socket) == len(address.SOCKET.format(0)) - 1 + len(path.split("/sockets/")[0].rpartition("_")[2])
    assert len(path) >= len(ray._private.worker._global_node.raylet_socket_name)
    assert folder


def test_a_ray_that_cannot_be_started_or_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/ray")

    monkeypatch.setattr(ray, "init", full)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(ClusterError, match=r"cannot start a Ray on this machine: .*No space left"), cluster.connected():
        pass
    monkeypatch.setattr(cluster, "check_address", lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(ClusterError, match=r"cannot join the Ray at RAY_ADDRESS=head:6379: .*"), cluster.connected():
        pass
