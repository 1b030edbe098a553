"""Capacity: how many slots fit on the cluster, and the arithmetic when none do."""

from collections.abc import Mapping, Sequence

from prunedlora.config.sweep import ResourcesConfig

Node = Mapping[str, float]
"""Resources of one node by Ray's names: CPU, GPU, …"""


class CapacityError(RuntimeError):
    """A sweep that cannot fit on the cluster; the message shows the arithmetic."""


def worker_needs(resources: ResourcesConfig) -> dict[str, float]:
    """What one worker reserves, by Ray's names."""
    needs = {"CPU": float(resources.cpus_per_worker)}
    if resources.gpus_per_worker:
        needs["GPU"] = float(resources.gpus_per_worker)
    return needs


def num_slots(resources: ResourcesConfig, nodes: Sequence[Node], num_trials: int, *, may_grow: bool) -> int:
    """Slots to start: as many as asked for or as fit, and no more than there are trials to run (at least one).

    `may_grow`: nodes may come, so that a given number of slots is believed, and those without a place wait for one.

    Raises:
        CapacityError: not even one slot fits, or fewer than asked for.
    """
    fitting = num_fitting(resources, nodes)
    believed = may_grow and resources.num_slots is not None
    if fitting < (resources.num_slots or 1) and not believed:
        raise CapacityError(_arithmetic(resources, nodes, fitting, may_grow=may_grow))
    return max(1, min(resources.num_slots or fitting, num_trials))


def num_fitting(resources: ResourcesConfig, nodes: Sequence[Node]) -> int:
    """Slots that the nodes have room for. A worker must fit on one node; those of a slot may be spread over several."""
    return _num_workers(worker_needs(resources), nodes) // resources.num_workers


def has_room(resources: ResourcesConfig, available: Node) -> bool:
    """Whether what is free in all, on all nodes together, is enough for a slot. It may lie on too many of them."""
    return all(
        available.get(name, 0.0) >= amount * resources.num_workers for name, amount in worker_needs(resources).items()
    )


def waiting_text(resources: ResourcesConfig, nodes: Sequence[Node], num_started: int, num_opened: int) -> str:
    """That slots wait, for what, and what there is."""
    return (
        f"waiting for resources: {num_started} of {num_opened} slots have started; a slot needs {_needs(resources)}, "
        f"the cluster has {_offer(resources, nodes)}, of which others may hold some"
    )


def _num_workers(needs: Mapping[str, float], nodes: Sequence[Node]) -> int:
    return sum(min(_num_shares(node.get(name, 0.0), amount) for name, amount in needs.items()) for node in nodes)


def _num_shares(available: float, amount: float) -> int:
    """How often `amount` fits. A part of a GPU lies on one GPU: 0.3 fits three times on each, whatever is left over."""
    if amount < 1:
        return int(available) * int(1 / amount + 1e-9)  # 1 / 0.1 is 10, but 1 // 0.1 is 9
    return int(available // amount)


def _arithmetic(resources: ResourcesConfig, nodes: Sequence[Node], fitting: int, *, may_grow: bool) -> str:
    wanted = "" if resources.num_slots in (None, 1) else f"{resources.num_slots} slots are asked for; "
    later = ". Where an autoscaler adds them when they are asked for, give resources.num_slots: the sweep then waits"
    return (
        f"{wanted}a slot needs {_needs(resources)}; the cluster has {_offer(resources, nodes)}: "
        f"{'no slot fits' if fitting == 0 else f'only {fitting} fit' + ('s' if fitting == 1 else '')}. Lower "
        "resources.num_workers, cpus_per_worker, gpus_per_worker or num_slots, or give Ray more nodes"
        f"{later if may_grow else ''}"
    )


def _needs(resources: ResourcesConfig) -> str:
    needs, workers = worker_needs(resources), resources.num_workers
    total = " and ".join(_amount(amount * workers, name) for name, amount in needs.items())
    if workers > 1:
        total += f" ({workers} workers × {' and '.join(_amount(amount, name) for name, amount in needs.items())})"
    return total


def _offer(resources: ResourcesConfig, nodes: Sequence[Node]) -> str:
    needs = worker_needs(resources)
    shapes: dict[str, int] = {}
    for node in nodes:
        shape = " and ".join(_amount(node.get(name, 0.0), name) for name in needs)
        shapes[shape] = shapes.get(shape, 0) + 1
    has = (f"{count} {'node' if count == 1 else 'nodes'} with {shape}" for shape, count in shapes.items())
    return ", ".join(has) or "no nodes"


def _amount(amount: float, name: str) -> str:
    return f"{amount:g} {name}{'' if amount == 1 else 's'}"
