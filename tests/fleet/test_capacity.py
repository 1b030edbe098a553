import re
from typing import Any

import pytest

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.fleet.capacity import CapacityError, has_room, num_fitting, num_slots, waiting_text


def resources(**values: Any) -> ResourcesConfig:
    return ResourcesConfig(**values)


@pytest.mark.parametrize(
    ("wanted", "nodes", "trials", "slots"),
    [
        ({}, [{"CPU": 2.0}], 12, 2),
        ({}, [{"CPU": 2.0}, {"CPU": 4.0}], 12, 6),
        ({}, [{"CPU": 64.0}], 12, 12),
        ({}, [{"CPU": 2.0}], 0, 1),
        ({"num_slots": 1}, [{"CPU": 2.0}], 12, 1),
        ({"cpus_per_worker": 2}, [{"CPU": 3.0}, {"CPU": 3.0}], 12, 2),
        ({"num_workers": 2}, [{"CPU": 1.0}, {"CPU": 1.0}], 12, 1),
        ({"gpus_per_worker": 1, "cpus_per_worker": 4}, [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 8.0}], 99, 4),
        ({"num_workers": 4, "gpus_per_worker": 1}, [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 16.0, "GPU": 8.0}], 99, 4),
        ({"gpus_per_worker": 0.1}, [{"CPU": 64.0, "GPU": 2.0}], 99, 20),
        ({"gpus_per_worker": 0.3}, [{"CPU": 64.0, "GPU": 2.0}], 99, 6),
        ({"gpus_per_worker": 0.6}, [{"CPU": 64.0, "GPU": 2.0}], 99, 2),
    ],
)
def test_slots_that_fit(wanted: dict[str, Any], nodes: list[dict[str, float]], trials: int, slots: int) -> None:
    assert num_slots(resources(**wanted), nodes, trials, may_grow=False) == slots


@pytest.mark.parametrize(
    ("wanted", "nodes", "message"),
    [
        (
            {"num_workers": 2, "gpus_per_worker": 1},
            [{"CPU": 8.0, "GPU": 1.0}],
            "a slot needs 2 CPUs and 2 GPUs (2 workers × 1 CPU and 1 GPU); "
            "the cluster has 1 node with 8 CPUs and 1 GPU: no slot fits",
        ),
        (
            {"num_workers": 3},
            [{"CPU": 2.0}],
            "a slot needs 3 CPUs (3 workers × 1 CPU); the cluster has 1 node with 2 CPUs: no slot fits",
        ),
        (
            {"cpus_per_worker": 4},
            [{"CPU": 2.0}, {"CPU": 2.0}],
            "a slot needs 4 CPUs; the cluster has 2 nodes with 2 CPUs: no slot fits",
        ),
        (
            {"num_slots": 3},
            [{"CPU": 1.0}],
            "3 slots are asked for; a slot needs 1 CPU; the cluster has 1 node with 1 CPU: only 1 fits",
        ),
        ({}, [], "a slot needs 1 CPU; the cluster has no nodes: no slot fits"),
    ],
)
def test_a_sweep_that_cannot_fit_is_refused_with_the_arithmetic(
    wanted: dict[str, Any], nodes: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(CapacityError, match=re.escape(message)):
        num_slots(resources(**wanted), nodes, 12, may_grow=False)


def test_a_given_number_of_slots_is_believed_where_nodes_may_come() -> None:
    """An autoscaler at zero GPUs; not on a Ray of this machine alone, where nothing can come."""
    gpu = {"gpus_per_worker": 1}
    for nodes in ([], [{"CPU": 8.0}], [{"CPU": 8.0, "GPU": 1.0}]):
        assert num_slots(resources(num_slots=4, **gpu), nodes, 12, may_grow=True) == 4
        assert num_slots(resources(num_slots=4, **gpu), nodes, 2, may_grow=True) == 2
        with pytest.raises(CapacityError, match="4 slots are asked for; a slot needs 1 CPU and 1 GPU"):
            num_slots(resources(num_slots=4, **gpu), nodes, 12, may_grow=False)
    with pytest.raises(CapacityError, match=r"give resources\.num_slots: the sweep then waits$"):
        num_slots(resources(**gpu), [{"CPU": 8.0}], 12, may_grow=True)
    assert num_fitting(resources(**gpu), [{"CPU": 8.0}]) == 0


def test_room_is_what_nobody_holds() -> None:
    wanted = resources(num_workers=2, gpus_per_worker=1)
    assert has_room(wanted, {"CPU": 2.0, "GPU": 2.0, "memory": 1.0})
    assert not has_room(wanted, {"CPU": 8.0, "GPU": 1.0})
    assert not has_room(wanted, {"CPU": 8.0})


def test_waiting_is_told_with_what_is_needed_and_what_there_is() -> None:
    assert waiting_text(resources(gpus_per_worker=1), [{"CPU": 8.0}], 0, 4) == (
        "waiting for resources: 0 of 4 slots have started; a slot needs 1 CPU and 1 GPU, "
        "the cluster has 1 node with 8 CPUs and 0 GPUs, of which others may hold some"
    )
