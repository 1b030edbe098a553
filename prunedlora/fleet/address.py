"""Address: whether Ray can be joined where RAY_ADDRESS says, or started here, asked before Ray tries it for minutes."""

import os
import sys
import time

import grpc  # type: ignore[import-untyped]
import ray
from ray._private import services

ANSWER_SECONDS = 5.0
PROBE = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What every Ray head knows and no other server does."""
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a Unix socket."""
SOCKET = "session_2026-01-01_00-00-00_000000_{}/sockets/plasma_store"
"""Where Ray has the longest of its own, by the process that starts it."""


class ClusterError(RuntimeError):
    """A Ray that cannot be joined or started; the message says what would do."""


def given_address() -> str | None:
    """What RAY_ADDRESS says; None where a Ray is to be started on this machine."""
    address = os.environ.get("RAY_ADDRESS", "")
    return None if address in ("", "local") else address


def check_address() -> None:
    """Raises ClusterError, within seconds, where `connected` could not connect; starts and joins nothing."""
    if ray.is_initialized():
        return
    address = given_address()
    if address is None:
        _check_sockets()
        return
    scheme, slashes, rest = address.partition("://")
    if slashes:
        host = rest.strip("/").rpartition(":")[0] or rest
        jobs = address if scheme in ("http", "https") else f"http://{host}:8265"
        raise ClusterError(
            f"RAY_ADDRESS={address}: a sweep cannot run over {scheme}://, its driver must be in the cluster: give the "
            f"command to `ray job submit` (RAY_ADDRESS={jobs}), or run it on the head node (RAY_ADDRESS={host}:6379)"
        )
    try:
        joined = services.canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        if address == "auto":
            raise ClusterError(
                "RAY_ADDRESS=auto: no Ray runs on this machine; start one (`ray start --head`), or unset RAY_ADDRESS "
                "for one that ends with the sweep"
            ) from error
        raise ClusterError(f"RAY_ADDRESS={address} is no address: give host:port, as head:6379, or auto") from error
    if joined is not None and (problem := _problem(joined)) is not None:
        raise ClusterError(
            f"RAY_ADDRESS={address}: no Ray answers at {joined} ({problem}); give the host:port of one that runs, or "
            "unset RAY_ADDRESS for one on this machine that ends with the sweep"
        )


def _problem(address: str) -> str | None:
    """What is wrong at an address; None where a Ray answers, be it that it wants a token."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return None  # with certificates that only Ray reads
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
            try:
                channel.unary_unary(PROBE)(b"", timeout=ANSWER_SECONDS)
                return None
            except grpc.RpcError as error:
                code, details = error.code(), str(error.details())
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return "another server is there; Ray's port is most often 6379"
        if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return None
        if time.monotonic() > end:
            return details.rpartition("last error: ")[2]
        time.sleep(0.5)


def _check_sockets() -> None:
    """As Ray checks them, which tells nobody what to do about it."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    if name is None:
        return
    path = os.path.join(os.environ[name], "ray", SOCKET.format(os.getpid()))
    if (length := len(os.fsencode(path))) > SOCKET_BYTES:
        most = SOCKET_BYTES - length + len(os.fsencode(os.environ[name]))
        raise ClusterError(
            f"{name}={os.environ[name]} is too long for the sockets of Ray, whose paths have at most {SOCKET_BYTES} "
            f"bytes: set RAY_TMPDIR to a folder of at most {most}, as /tmp"
        )
