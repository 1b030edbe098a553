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


def num_slots(resources: ResourcesConfig, nodes: Sequence[Node], num_trials: int) -> int:
    """Slots to start: as many as asked for or as fit, and no more than there are trials to run (at least one).

    A worker must fit on one node; the workers of a slot may be spread over several.

    Raises:
        CapacityError: not even one slot fits, or fewer than asked for.
    """
    fitting = _num_workers(worker_needs(resources), nodes) // resources.num_workers
    if fitting < (resources.num_slots or 1):
        raise CapacityError(_arithmetic(resources, nodes, fitting))
    return max(1, min(resources.num_slots or fitting, num_trials))


def _num_workers(needs: Mapping[str, float], nodes: Sequence[Node]) -> int:
    return sum(min(_num_shares(node.get(name, 0.0), amount) for name, amount in needs.items()) for node in nodes)


def _num_shares(available: float, amount: float) -> int:
    """How often `amount` fits. A part of a GPU lies on one GPU: 0.3 fits three times on each, whatever is left over."""
    if amount < 1:
        return int(available) * int(1 / amount + 1e-9)  # 1 / 0.1 is 10, but 1 // 0.1 is 9
    return int(available // amount)


def _arithmetic(resources: ResourcesConfig, nodes: Sequence[Node], fitting: int) -> str:
    needs = worker_needs(resources)
    workers = resources.num_workers
    total = " and ".join(_amount(amount * workers, name) for name, amount in needs.items())
    if workers > 1:
        total += f" ({workers} workers × {' and '.join(_amount(amount, name) for name, amount in needs.items())})"
    shapes: dict[str, int] = {}
    for node in nodes:
        shape = " and ".join(_amount(node.get(name, 0.0), name) for name in needs)
        shapes[shape] = shapes.get(shape, 0) + 1
    has = ", ".join(f"{count} {'node' if count == 1 else 'nodes'} with {shape}" for shape, count in shapes.items())
    wanted = "" if resources.num_slots in (None, 1) else f"{resources.num_slots} slots are asked for; "
    return (
        f"{wanted}a slot needs {total}; the cluster has {has or 'no nodes'}: "
        f"{'no slot fits' if fitting == 0 else f'only {fitting} fit' + ('s' if fitting == 1 else '')}. Lower "
        "resources.num_workers, cpus_per_worker, gpus_per_worker or num_slots, or give Ray more nodes"
    )


def _amount(amount: float, name: str) -> str:
    return f"{amount:g} {name}{'' if amount == 1 else 's'}"
