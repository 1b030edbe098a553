"""`prunedlora plan`: what a sweep will take, by speeds that a slot with its resources measures in about a minute."""

import time
from collections.abc import Mapping, Sequence

from rich.console import Console

from prunedlora.config.pins import pinned
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.fleet import cluster
from prunedlora.fleet.speed_slot import measure_in_slot
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.plan_document import PlanDocument, read_plan
from prunedlora.results.store import PLAN_FILE
from prunedlora.sweep.estimate import Group, planned
from prunedlora.sweep.every_trial import every_trial
from prunedlora.sweep.plan import Outlook, look_ahead, outlook_lines, recorded_lines
from prunedlora.sweep.plan_text import estimate_lines
from prunedlora.sweep.training_amount import speed_kind


class NothingToMeasureError(ValueError):
    """A sweep that trains nothing whose speed could be measured; the message says what to do."""


def plan_ahead(
    config: SweepConfig, storage: str, console: Console, *, price_per_hour: float | None, calibrates: bool
) -> None:
    """Prints what the dry run prints, then how long it takes, of what and for how much, and keeps that as plan.json in
    the storage, where nothing of the sweep was trained there yet. Without `calibrates`, the estimate on record.

    A limit to device hours that no training fits into is no error here: how long one takes is what is measured. Raises
    NothingToMeasureError, SpeedError, and as `look_ahead`.
    """
    outlook = look_ahead(config, storage, console, holds_limit=False)
    for line in outlook_lines(outlook):
        print_plain(console, line)
    if not calibrates:
        for line in recorded_lines(outlook, read_plan(outlook.store)):
            print_plain(console, line)
        return
    trials = measured_trials(config, outlook.groups, outlook.commits)
    is_bound = outlook.store.binding.is_bound()
    print_plain(console, f"Measuring in a slot ({len(trials)} of about a minute each, at most) …")
    plan = _measured(outlook, trials)
    for line in estimate_lines(
        plan,
        outlook.groups,
        price_per_hour=price_per_hour,
        max_device_hours=config.max_device_hours,
        has_looks=config.stopping is not None,
    ):
        print_plain(console, line)
    if is_bound:
        print_plain(console, "Not kept: the sweep has begun, and what is on record as its plan was made before")
        return
    outlook.store.write_document(PLAN_FILE, plan)
    print_plain(
        console, f"Kept: {outlook.store.storage.uri_of(PLAN_FILE)}; the sweep's report sets it beside the truth"
    )


def measured_trials(
    config: SweepConfig, groups: Sequence[Group], commits: Mapping[str, str | None]
) -> dict[str, TrialConfig]:
    """Kind → the training that its speed is measured with, of those that train: one of the largest initial rank.

    Raises NothingToMeasureError where all of a kind are of no step.
    """
    wanted = dict.fromkeys(amount.kind for group in groups for amount in group.amounts)
    found: dict[str, TrialConfig] = {}
    for written in every_trial(config):
        trial = pinned(written, commits)
        kind = speed_kind(trial)
        if (
            kind in wanted
            and trial.training.num_steps != 0
            and (kind not in found or _rank(trial) > _rank(found[kind]))
        ):
            found[kind] = trial
    if missing := [kind for kind in wanted if kind not in found]:
        raise NothingToMeasureError(
            f"training.num_steps is 0 for {missing[0].partition(' on ')[0]}: nothing is trained, so no speed can be "
            "measured; --no-calibration tells what is to be done"
        )
    return {kind: found[kind] for kind in wanted}


def _rank(trial: TrialConfig) -> int:
    return 0 if trial.adapter is None else trial.adapter.initial_rank or 0


def _measured(outlook: Outlook, trials: Mapping[str, TrialConfig]) -> PlanDocument:
    config, began = outlook.config, time.monotonic()
    with cluster.connected():
        connecting = time.monotonic() - began
        startup, speeds = measure_in_slot(trials, config.resources, outlook.store.storage)
    by_kind = {speed.kind: speed for speed in speeds}
    return planned(config, outlook.groups, by_kind, outlook.num_slots, connecting + startup)
