"""Plan: what a sweep would do, for --dry-run and `prunedlora plan`. Nothing is written and no Ray is started here."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from rich.console import Console

from prunedlora.config.given import given_first
from prunedlora.config.identity import KEY_VERSION, contents
from prunedlora.config.sweep import ResourcesConfig, SweepConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.address import check_address, given_address
from prunedlora.fleet.capacity import num_fitting, num_slots, worker_needs
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.plan_document import PlanDocument, changed_fields, read_plan
from prunedlora.results.analysis.serve_text import as_served
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.figure_text import counted
from prunedlora.results.record import TrialRecord
from prunedlora.results.share_text import share_text
from prunedlora.results.store import Store
from prunedlora.results.warm_start_document import WarmStart
from prunedlora.study.asker import Asker
from prunedlora.study.samplers import LEARN_FROM_COMPLETED_ONLY
from prunedlora.sweep.bind import check_fingerprints, commits_of
from prunedlora.sweep.device_hours import check_device_hours, device_hours_lines
from prunedlora.sweep.estimate import Group, groups_of
from prunedlora.sweep.every_trial import every_trial
from prunedlora.sweep.findings import Findings
from prunedlora.sweep.job_storage import check_storage
from prunedlora.sweep.limits import Limits
from prunedlora.sweep.plan_text import amount_lines, estimate_lines, stopping_line
from prunedlora.sweep.preflight import preflight
from prunedlora.sweep.seen_elsewhere import check_elsewhere, elsewhere_lines
from prunedlora.sweep.warm_start_store import replaced_lines, settle_warm_start, warm_start_lines


@dataclass(frozen=True)
class Outlook:
    """What is known of a sweep before anything of it is started."""

    config: SweepConfig
    store: Store
    exists: bool
    """Whether the store is that of this sweep already."""
    commits: Mapping[str, str | None]
    found: Findings
    asker: Asker
    num_slots: int
    num_fitting: int
    """Slots that have room now."""
    where: str
    memory: WarmStart
    """What is taken from earlier sweeps."""

    @property
    def groups(self) -> list[Group]:
        """The trainings of the whole sweep, those included that have ended."""
        return groups_of(self.config, self.found.amounts, self.asker.num_configurations)


def look_ahead(
    config: SweepConfig,
    storage: str,
    console: Console,
    *,
    retry_failed: bool = False,
    warm_start: Sequence[str] = (),
    holds_limit: bool = True,
) -> Outlook:
    """Checks what `run_sweep` would check, with the same errors (but for what the first write to an object store would
    tell: nothing is written here). `holds_limit`: whether too few max_device_hours are one of them. Raises
    DriverLockedError as it."""
    check_storage(storage)
    check_address()
    store = Store(storage)
    store.storage.check_writable()
    store.binding.check_key_version(KEY_VERSION)
    exists = store.check(config.model_copy(update={"storage": store.uri}).model_dump(mode="json"))
    store.binding.check_contents(contents(every_trial(config)))
    DriverLock(store.storage, say=partial(print_plain, console)).refuse_living()
    check_elsewhere(config, store)
    memory = settle_warm_start(config, store, warm_start)
    commits = commits_of(config, store)
    found = preflight(config, commits)
    check_fingerprints(store, found.fingerprints)
    asker = Asker(config, store, retry_failed=retry_failed)
    if holds_limit:
        check_device_hours(config, store, asker, found.amounts)
    if given_address() is not None:
        with cluster.connected():
            nodes, where = cluster.nodes(), f"the cluster at {given_address()}"
    else:
        nodes, where = cluster.local_nodes(), "a Ray started on this machine"
    slots = num_slots(config.resources, nodes, asker.num_left, may_grow=cluster.may_grow())
    fitting = num_fitting(config.resources, nodes)
    return Outlook(config, store, exists, commits, found, asker, slots, fitting, where, memory)


def print_plan(
    config: SweepConfig,
    storage: str,
    console: Console,
    *,
    retry_failed: bool = False,
    warm_start: Sequence[str] = (),
) -> None:
    """Checks what `run_sweep` would check, and prints trials, slots and resources, how much is to be done, and how long
    that takes where `prunedlora plan` has measured it. Raises as `look_ahead`."""
    outlook = look_ahead(config, storage, console, retry_failed=retry_failed, warm_start=warm_start)
    plan = read_plan(outlook.store)
    for line in [*outlook_lines(outlook), *recorded_lines(outlook, plan)]:
        print_plain(console, line)


def outlook_lines(outlook: Outlook) -> list[str]:
    """All that needs no speed."""
    config, found, asker, slots = outlook.config, outlook.found, outlook.asker, outlook.num_slots
    resources = config.resources
    waiting = f"; {outlook.num_fitting} fit there now, the others wait for more nodes"
    needs = ", ".join(f"{amount:g} {name}" for name, amount in worker_needs(resources).items())
    workers = f"{resources.num_workers} worker{'s' if resources.num_workers > 1 else ''}"
    return [
        f"Sweep {config.name}: {counted(config.num_trials, 'ask')} by {config.sampler}, "
        f"{counted(len(config.baselines), 'baseline')}",
        f"Objectives: {', '.join(f'{direction} {name}' for name, direction in config.objectives.items())}"
        + as_served(Objectives.parse(config.objectives).with_servers(config.serve_on)),
        f"Searched: {', '.join(config.space) or 'nothing'}",
        *(f"Data: {line}" for line in found.data),
        *(f"Adapter: {share_text(asdict(share))}" for share in found.shares),
        *found.evaluation,
        *amount_lines(outlook.groups),
        *([] if config.stopping is None else [stopping_line(config.stopping, outlook.groups)]),
        f"Storage: {outlook.store.uri} ({'goes on' if outlook.exists else 'new'})",
        *elsewhere_lines(config, outlook.store),
        f"Trials: {asker.num_kept} kept, {asker.num_resumed} to resume, "
        f"{asker.num_left - asker.num_resumed} new at most",
        f"Slots: {slots} on {outlook.where}, each {workers} of {needs}{waiting * (outlook.num_fitting < slots)}",
        *replaced_lines(outlook.store, outlook.memory),
        *warm_start_lines(outlook.memory, config.sampler),
        *search_lines(config, asker.num_configurations, found.limits),
        *other_workers(outlook.store.records() if outlook.exists else [], resources),
        *(f"Warning: {warning}" for warning in found.warnings),
    ]


def recorded_lines(outlook: Outlook, plan: PlanDocument | None) -> list[str]:
    """The estimate on record, or why it is none of this sweep; without one, what the limit is held against."""
    config = outlook.config
    limit = device_hours_lines(config, outlook.store, outlook.asker, outlook.found.amounts)
    if plan is None:
        return limit
    if changed := changed_fields(plan, config.model_dump(mode="json")):
        return [f"Plan on record: of other {', '.join(changed)}; prunedlora plan measures again", *limit]
    lines = estimate_lines(
        plan,
        outlook.groups,
        price_per_hour=None,
        max_device_hours=config.max_device_hours,
        has_looks=config.stopping is not None,
    )
    return ["Plan on record:", *(f"  {line}" for line in lines)]


def search_lines(config: SweepConfig, num_configurations: int | None, limits: Limits | None = None) -> list[str]:
    """What is to be known of the search: what it begins with, what its sampler does not learn from, a space that is
    tried whole, and how it stands to the constraints."""
    lines = []
    if (given := given_first(config.space, config.known)) and config.num_trials > 0:
        what = ["the priors"] if len(given) > len(config.known) else []
        what += [counted(len(config.known), "known configuration")] if config.known else []
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
        all_are = ", which is tried" if num_configurations == 1 else ": all are tried"
        if limits is not None and not limits.all_fit:
            all_are = ": those that can meet the limits are tried"
        lines.append(f"Space: it has {counted(num_configurations, 'configuration')}{all_are}{most}")
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
