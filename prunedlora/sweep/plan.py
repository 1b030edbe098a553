"""Plan: what a sweep would do, for --dry-run. Nothing is written and no Ray is started."""

import os
from dataclasses import asdict

from rich.console import Console

from prunedlora.config.identity import KEY_VERSION, contents
from prunedlora.config.sweep import SweepConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.capacity import num_slots, worker_needs
from prunedlora.results.share_text import share_text
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.sweep.preflight import every_trial, preflight


def print_plan(config: SweepConfig, storage: str, console: Console, *, retry_failed: bool = False) -> None:
    """Checks what `run_sweep` would check, with the same errors (but that of a storage which cannot be written: nothing
    is written here), and prints trials, slots and resources."""
    cluster.check_storage(storage)
    store = Store(storage)
    store.check_key_version(KEY_VERSION)
    exists = store.check(config.model_copy(update={"storage": store.uri}).model_dump(mode="json"))
    store.check_contents(contents(every_trial(config)))
    found = preflight(config)
    asker = Asker(config, store, retry_failed=retry_failed)
    if os.environ.get("RAY_ADDRESS"):
        with cluster.connected():
            nodes, where = cluster.nodes(), f"the cluster at {os.environ['RAY_ADDRESS']}"
    else:
        nodes, where = cluster.local_nodes(), "a Ray started on this machine"
    resources = config.resources
    slots = num_slots(resources, nodes, asker.num_left)
    needs = ", ".join(f"{amount:g} {name}" for name, amount in worker_needs(resources).items())
    workers = f"{resources.num_workers} worker{'s' if resources.num_workers > 1 else ''}"
    lines = [
        f"Sweep {config.name}: {config.num_trials} asks by {config.sampler}, {len(config.baselines)} baselines",
        f"Objectives: {', '.join(f'{direction} {name}' for name, direction in config.objectives.items())}",
        f"Searched: {', '.join(config.space) or 'nothing'}",
        *(f"Data: {line}" for line in found.data),
        *(f"Adapter: {share_text(asdict(share))}" for share in found.shares),
        f"Storage: {store.uri} ({'goes on' if exists else 'new'})",
        f"Trials: {asker.num_kept} kept, {asker.num_resumed} to resume, "
        f"{asker.num_left - asker.num_resumed} new at most",
        f"Slots: {slots} on {where}, each {workers} of {needs}",
        *(f"Warning: {warning}" for warning in found.warnings),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
