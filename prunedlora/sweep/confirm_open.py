"""A confirmation before and after its trainings: what is planned, checked and said, however they are run."""

import getpass
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from rich.console import Console

from prunedlora.config.identity import KEY_VERSION, contents, trial_key
from prunedlora.config.load import ConfigError, parse_sweep, with_overrides
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.confirmation import Confirmation, confirmation
from prunedlora.results.analysis.confirmation_text import confirmation_sentences
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.analysis.tested import tested
from prunedlora.results.ask import ConfirmationPlan
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.figure_text import counted, seconds_text
from prunedlora.results.record import TrialRecord
from prunedlora.results.report.report import write_report_of
from prunedlora.results.store import Store
from prunedlora.study.confirm_asker import ConfirmAsker
from prunedlora.sweep.bind import check_fingerprints
from prunedlora.sweep.confirm_lines import against_lines, choice_line, earlier_line, trunk_lines
from prunedlora.sweep.confirm_plan import Request, about_the_same, fresh_trial, make_plan
from prunedlora.sweep.outcome import Ending
from prunedlora.sweep.preflight import preflight

CHANGEABLE = ("resources.", "retention.", "max_attempts")
"""Settings that `--set` may change: what is trained is that of the trials that are confirmed."""


@dataclass(frozen=True)
class Confirming:
    """A plan, and what its trainings are run with."""

    store: Store
    plan: ConfirmationPlan
    is_new: bool
    objectives: Objectives
    trials: dict[str, TrialConfig]
    """Key → configuration, of all fresh trainings."""
    configs: tuple[SweepConfig, ...]
    """For each setting a sweep of it alone."""
    earlier: tuple[Confirmation, ...]
    """Of the same adapters, on other terms."""
    choice: str
    """What is beside the recommended adapter and why, or what could be; a sentence. Empty where that was named."""

    @property
    def terms(self) -> SweepConfig:
        return self.configs[0]

    def asker(self) -> ConfirmAsker:
        return ConfirmAsker(self.store, self.trials, lambda records: self.found(records).wanted())

    def found(self, records: Sequence[TrialRecord]) -> Confirmation:
        return confirmation(self.store, records, self.objectives, self.plan)

    def check(self) -> list[str]:
        """Loads data and models as a sweep does before it starts; what is worth saying. Raises what `preflight` does,
        and StoreError where the data are not those of the store any more."""
        warnings: dict[str, None] = {}
        for config in self.configs:
            found = preflight(config, self.store.binding.read_commits())
            check_fingerprints(self.store, found.fingerprints)
            warnings |= dict.fromkeys(found.warnings)
        return list(warnings)

    def untested(self) -> list[Point]:
        """Fresh adapters with a file that were not measured on the test split."""
        found = self.found(self.store.records())
        points = [p for result in found.results for p in result.points if p.candidate.adapter_path is not None]
        done = tested(self.store, points)
        return [point for point in points if point.name not in done]

    def lines(self) -> list[str]:
        """What is planned, and what it takes by what the trials on record took."""
        plan, records = self.plan, {record.key: record for record in self.store.records()}
        found = self.found(list(records.values()))
        left = [key for key in found.wanted() if key not in records]
        seconds, steps, most = 0.0, 0, 0.0
        for setting in plan.settings:
            record = records[setting.key]
            each = record.train_seconds + (record.evaluation_seconds or 0.0)
            own = [key for key in left if key in setting.fresh]
            last = record.last_trained
            seconds += each * len(own)
            steps += (0 if last is None else last.step) * len(own)
            most += each * sum(key not in records for key in setting.fresh)
        kept = sum(key in records for key in self.trials)
        looks = " then ".join(map(str, plan.looks))
        further = f", at most {seconds_text(most)} with all looks" if len(plan.looks) > 1 and most else ""
        return [
            f"Confirmation {plan.number} of {self.store.uri} ({'new' if self.is_new else 'goes on'}): "
            f"{', '.join(plan.candidates)}",
            *filter(None, [self.choice]),
            *against_lines(plan),
            *map(earlier_line, self.earlier),
            f"{counted(len(plan.seeds), 'fresh seed')}: {', '.join(map(str, plan.seeds))}, the same for all; looked at "
            f"after {looks}",
            f"Trainings: {kept} kept, {len(left)} to come, {steps:,} steps, about "
            f"{seconds_text(seconds)} of one slot{further}",
            *trunk_lines(plan, records),
        ]

    def conclude(self, ending: Ending, problems: Sequence[str], num_ended: int, console: Console) -> int:
        """Writes the report, prints what came of it, and returns the status for the shell: 0; 1 when something went
        wrong beside the trainings; 130 interrupted."""
        summary = summarize(self.store)
        write_report_of(summary)
        found = self.found(summary.records)
        for line in (
            *confirmation_sentences([found], self.objectives),
            *found.caveats,
            f"Trainings: {num_ended} new; {'all planned trainings are done' if found.is_over else ending}.",
            *(f"Problem: {problem}" for problem in problems),
            *([] if found.is_over else ["Run the same command again to go on."]),
        ):
            print_plain(console, line)
        return 130 if ending == "interrupted" else int(bool(problems))


def open_confirmation(storage: str, request: Request, overrides: Sequence[str] = ()) -> Confirming:
    """The confirmation that is asked for, its store checked; writes nothing.

    Raises:
        StoreError: there is no store, it is of another version, or models or data changed since it began.
        RecordError: a document in it is broken.
        ConfirmError, UnknownCandidateError: what cannot be confirmed.
        ConfigError: overrides of what is not to be changed.
        LocationError: a model or data that are gone.
    """
    store = Store(storage)
    store.open()
    store.storage.check_writable()
    store.binding.check_key_version(KEY_VERSION)
    summary = summarize(store)
    plan, is_new = make_plan(summary, request, _who(), datetime.now(UTC).isoformat(timespec="seconds"))
    trials: dict[str, TrialConfig] = {}
    for setting in plan.settings:
        trials |= {
            key: fresh_trial(store, setting.key, seed) for key, seed in zip(setting.fresh, plan.seeds, strict=True)
        }
    store.binding.check_contents(contents(trials.values()))
    for key, trial in trials.items():
        assert trial_key(trial) == key
    firsts = [trials[setting.fresh[0]] for setting in plan.settings]
    configs = tuple(_alone(summary.sweep, trial, overrides) for trial in firsts)
    earlier = tuple(
        confirmation(store, summary.records, summary.objectives, other)
        for other in about_the_same(summary, plan.candidates)
        if other.number != plan.number
    )
    return Confirming(
        store, plan, is_new, summary.objectives, trials, configs, earlier, choice_line(summary, request, plan)
    )


def print_confirmation_plan(opened: Confirming, console: Console) -> None:
    """For --dry-run: the same checks, nothing written. Raises as `Confirming.check`, and DriverLockedError."""
    DriverLock(opened.store.storage, say=partial(print_plain, console)).refuse_living()
    for line in (*opened.lines(), *(f"Warning: {warning}" for warning in opened.check())):
        print_plain(console, line)


def begin(opened: Confirming, console: Console) -> None:
    """For the driver that holds the lock: says what is planned, checks that it can be trained, and writes it down."""
    lines = opened.lines()
    if opened.is_new or opened.asker().num_left:
        lines += [f"Warning: {warning}" for warning in opened.check()]
    if opened.is_new:
        opened.store.write_confirmation(opened.plan)
    for line in lines:
        print_plain(console, line)


def _alone(sweep: dict[str, object], trial: TrialConfig, overrides: Sequence[str]) -> SweepConfig:
    """A sweep of one trial, which is run as the store's own are, but for the overrides. Raises ConfigError."""
    if wrong := [each for each in overrides if not each.startswith(CHANGEABLE)]:
        raise ConfigError(
            f"--set {wrong[0]}: a confirmation trains what was trained; it takes {', '.join(CHANGEABLE)} alone"
        )
    if wrong := [each for each in overrides if each.startswith("retention.adapters")]:
        raise ConfigError(
            f"--set {wrong[0]}: it has no effect here, a confirmation keeps the adapters of all its trainings; "
            "leave it out"
        )
    tree = sweep | {"trial": trial.model_dump(mode="json"), "num_trials": 0, "space": {}, "baselines": [{}]}
    return parse_sweep(with_overrides(tree, overrides), "the store's sweep")


def _who() -> str:
    try:
        user = getpass.getuser()
    except OSError:  # a container whose user has no name
        user = "unknown"
    return f"{user}@{platform.node()}"
