"""Plan: what a sweep would do, for --dry-run. Nothing is written and no Ray is started."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial

from rich.console import Console

from prunedlora.config.given import given_first
from prunedlora.config.identity import KEY_VERSION, contents
from prunedlora.config.sweep import ResourcesConfig, SweepConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.address import check_address, given_address
from prunedlora.fleet.capacity import num_fitting, num_slots, worker_needs
from prunedlora.plain_print import print_plain
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.record import TrialRecord
from prunedlora.results.share_text import share_text
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.study.samplers import LEARN_FROM_COMPLETED_ONLY
from prunedlora.sweep.bind import check_fingerprints, commits_of
from prunedlora.sweep.job_storage import check_storage
from prunedlora.sweep.limits import Limits
from prunedlora.sweep.preflight import every_trial, preflight


def print_plan(config: SweepConfig, storage: str, console: Console, *, retry_failed: bool = False) -> None:
    """Checks what `run_sweep` would check, with the same errors (but for what the first write to an object store would
    tell: nothing is written here), and prints trials, slots and resources. Raises DriverLockedError as it."""
    check_storage(storage)
    check_address()
    store = Store(storage)
    store.storage.check_writable()
    store.binding.check_key_version(KEY_VERSION)
    exists = store.check(config.model_copy(update={"storage": store.uri}).model_dump(mode="json"))
    store.binding.check_contents(contents(every_trial(config)))
    DriverLock(store.storage, say=partial(print_plain, console)).refuse_living()
    found = preflight(config, commits_of(config, store))
    check_fingerprints(store, found.fingerprints)
    asker = Asker(config, store, retry_failed=retry_failed)
    if given_address() is not None:
        with cluster.connected():
            nodes, where = cluster.nodes(), f"the cluster at {given_address()}"
    else:
        nodes, where = cluster.local_nodes(), "a Ray started on this machine"
    resources = config.resources
    slots = num_slots(resources, nodes, asker.num_left, may_grow=cluster.may_grow())
    fitting = num_fitting(resources, nodes)
    waiting = f"; {fitting} fit there now, the others wait for more nodes" if fitting < slots else ""
    needs = ", ".join(f"{amount:g} {name}" for name, amount in worker_needs(resources).items())
    workers = f"{resources.num_workers} worker{'s' if resources.num_workers > 1 else ''}"
    lines = [
        f"Sweep {config.name}: {config.num_trials} asks by {config.sampler}, {len(config.baselines)} baselines",
        f"Objectives: {', '.join(f'{direction} {name}' for name, direction in config.objectives.items())}",
        f"Searched: {', '.join(config.space) or 'nothing'}",
        *(f"Data: {line}" for line in found.data),
        *(f"Adapter: {share_text(asdict(share))}" for share in found.shares),
        *found.evaluation,
        f"Storage: {store.uri} ({'goes on' if exists else 'new'})",
        f"Trials: {asker.num_kept} kept, {asker.num_resumed} to resume, "
        f"{asker.num_left - asker.num_resumed} new at most",
        f"Slots: {slots} on {where}, each {workers} of {needs}{waiting}",
        *search_lines(config, asker.num_configurations, found.limits),
        *other_workers(store.records() if exists else [], resources),
        *(f"Warning: {warning}" for warning in found.warnings),
    ]
    for line in lines:
        print_plain(console, line)


def search_lines(config: SweepConfig, num_configurations: int | None, limits: Limits | None = None) -> list[str]:
    """What is to be known of the search: what it begins with, what its sampler does not learn from, a space that is
    tried whole, and how it stands to the constraints."""
    lines = []
    if (given := given_first(config.space, config.known)) and config.num_trials > 0:
        what = ["the priors"] if len(given) > len(config.known) else []
        what += [f"{len(config.known)} known configurations"] if config.known else []
        lines.append(f"First: {' and '.join(what)}")
    if limits is not None:
        lines.append(limits.line)
    if config.num_trials > 0 and config.sampler in LEARN_FROM_COMPLETED_ONLY:
        lines.append(
            f"Sampler: {config.sampler} does not learn from failed or stopped trials: it may come back to settings "
            "that break a training; tpe keeps away from them"
        )
    if num_configurations is not None and num_configurations <= config.num_trials:
        most = "" if num_configurations == config.num_trials else f"; num_trials {config.num_trials} asks for more"
        lines.append(f"Space: it has {num_configurations} configurations: all are tried{most}")
    return lines


def other_workers(records: Iterable[TrialRecord], resources: ResourcesConfig) -> list[str]:
    """A line for every other number of workers, or of threads on a CPU, that trials on record ran with than trials to
    come would: their keys do not tell them apart."""
    others: Counter[str] = Counter()
    for environment in (record.environment for record in records):
        threads = environment.num_threads if environment.device == "cpu" else None
        if environment.num_workers != resources.num_workers or threads not in (None, resources.cpus_per_worker):
            others[_of(environment.num_workers, threads)] += 1
    now = _of(resources.num_workers, resources.cpus_per_worker)
    return [
        f"Workers: {count} trial{'s' if count > 1 else ''} on record ran as {then}, new ones would as {now}: "
        "with dropout another sample of the same training, without the same up to rounding"
        for then, count in sorted(others.items())
    ]


def _of(num_workers: int, num_threads: int | None) -> str:
    workers = f"{num_workers} worker{'s' if num_workers > 1 else ''}"
    return workers if num_threads is None else f"{workers} of {num_threads} thread{'s' if num_threads > 1 else ''}"
