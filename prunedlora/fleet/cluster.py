"""Cluster: the Ray that a sweep runs on, joined where there is one, started on this machine where there is none."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prunedlora.fleet.address import ClusterError, check_address, given_address
from prunedlora.fleet.answers import answer
from prunedlora.fleet.board import Board, Judge
from prunedlora.fleet.package_sources import OtherSourcesError, check_sources, own_sources
from prunedlora.fleet.slot_thread import slots_are_left

OBJECT_STORE_BYTES = 256 * 2**20  # only candidates and keys pass through it

ENVIRONMENT = {
    # Nothing is sent home unless the user says so.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tune: its silent output engine; results, logs and state of its own are not wanted; the store has them.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "10",
    # Train: how soon it notices that a slot has ended, and how long a request for a place stands before the slot's
    # thread looks whether the sweep is over (slots.py asks again).
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    # Paths in a configuration are meant from where the command was given.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # No warning about a change to come in a default that nothing here depends on.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOCAL_ENVIRONMENT = {
    # A dozen processes start at once; Ray warns about that by the number of CPUs.
    "RAY_worker_maximum_startup_concurrency": "4",
    # Nobody scrapes metrics here, and this machine is not taken away with a notice.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def set_environment(values: Mapping[str, str]) -> None:
    """Sets what Ray, Tune and Train read from the environment; what the user has set stays."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


@contextmanager
def connected() -> Iterator[None]:
    """Joined to a cluster: the one this process is in already, the one of RAY_ADDRESS (set inside a job), or a local
    one that listens on the loopback interface only and ends with the block.

    An error ends it too, but not SystemExit, when the process is about to end. While a slot has still to end nothing
    ends it (slot_thread.py): it is left to the end of the process.

    Raises ClusterError where no Ray can be joined or started.
    """
    if ray.is_initialized():
        yield
        return
    set_environment(ENVIRONMENT)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    check_address()
    address = given_address()
    try:
        if address is not None:
            ray.init(**quiet)
        else:
            set_environment(LOCAL_ENVIRONMENT)
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except (OSError, ValueError, RuntimeError, RayError) as error:
        ray.shutdown()
        what = "start a Ray on this machine" if address is None else f"join the Ray at RAY_ADDRESS={address}"
        raise ClusterError(f"cannot {what}: {error}") from error
    for name in ("ray.train", "ray.tune", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    except SystemExit:
        raise
    except BaseException:
        _shut_down()
        raise
    _shut_down()


def _shut_down() -> None:
    if not slots_are_left():
        ray.shutdown()


def has_dashboard() -> bool:
    """Whether the Ray that this process is connected to has a dashboard, whose server tells of actors."""
    return bool(ray._private.worker.get_dashboard_url())


def may_grow() -> bool:
    """Whether nodes may come while a sweep runs: not on a Ray that was started here."""
    return bool(os.environ.get("RAY_ADDRESS"))


def available() -> dict[str, float]:
    """What nobody holds, on all nodes together."""
    return dict(ray.available_resources())


def nodes() -> list[dict[str, float]]:
    """Resources of every living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def local_nodes() -> list[dict[str, float]]:
    """What a Ray started here would offer; nothing is started."""
    # Ray counts the CPUs of the container, not those of the machine.
    cpus = ray._private.utils.get_num_cpus()
    gpus = ray._private.accelerators.nvidia_gpu.NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
    return [{"CPU": float(cpus), "GPU": float(gpus)}]


def start_board(judge: Judge | None = None) -> Any:
    """The board's actor handle; it takes no CPU and lives on the driver's node, so that they die together. `judge`: a
    copy of it judges the trials."""
    return ray.remote(Board).options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here()).remote(judge)


def check_board(board: Any) -> None:
    """Raises ClusterError where the board runs another prunedlora than this process, which it would not understand."""
    try:
        check_sources(own_sources(), answer(board.sources.remote()), "Ray's process for the board")
    except OtherSourcesError as error:
        raise ClusterError(str(error)) from error


def here() -> Any:
    """The scheduling strategy of an actor that lives on this process's node."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
