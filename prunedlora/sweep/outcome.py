"""What one run of a sweep did, as it is told and kept at its end."""

import json
import os
import shlex
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from rich.console import Console

from prunedlora.config.metric_names import is_harness
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.harness_document import read_harness
from prunedlora.results.record import TrialRecord
from prunedlora.results.report.overview import print_report
from prunedlora.results.store import Store

STATS_FILE = "sweep_stats.json"

Ending = Literal[
    "all trials are done",
    "the space is exhausted",
    "the space is exhausted: all that keeps the constraints was tried",
    "the time is up",
    "the device hours are spent",
    "interrupted",
]
EARLY: tuple[Ending, ...] = ("interrupted", "the time is up", "the device hours are spent")
"""Endings of a run with trials left, which go on in the next one."""


@dataclass(frozen=True)
class SweepResult:
    """What one run of a sweep did. Times are wall-clock seconds of this run."""

    summary: Summary
    ending: Ending
    num_kept: int
    """Trials with a record from earlier runs."""
    num_resumed: int
    """Trials asked in earlier runs that had still to end when this one began."""
    num_new: int
    """Trials that this run ended beside those."""
    num_failed: int
    """Failed trials among all."""
    num_repeats: int
    """Asks of all runs for what had been asked for or recorded before: nothing was trained for them."""
    startup_seconds: float
    """From the start of the slots until the last was ready; 0 when none was needed."""
    wall_seconds: float
    problems: tuple[str, ...]
    """What went wrong beside the trials."""

    @property
    def exit_code(self) -> int:
        """Status for the shell: 0; 1 when no trial left an adapter or something beside the trials failed; 130
        interrupted."""
        if self.ending == "interrupted":
            return 130
        return int(bool(self.problems) or not (self.summary.points or self.ending in EARLY))


def harness_problems(store: Store, records: Iterable[TrialRecord]) -> list[str]:
    """Candidates that lm-evaluation-harness has no figures of, with why and what to do, one line each. Those whose
    tasks were measured afterwards (`prunedlora harness`) are none."""
    problems = []
    for record in records:
        missing = {candidate.name: candidate.harness_failure for candidate in record.candidates}
        if not any(missing.values()):
            continue
        if is_harness(metric := cast(dict[str, Any], record.config["evaluation"])["metric"]):
            measured_ones = {candidate.name for candidate in record.candidates if metric in candidate.figures}
            again = "run again with --retry-failed" if record.status == "failed" else "its trial has other candidates"
            problems += [
                f"lm-evaluation-harness has not measured all of {record.key}@{name}: {failure.type}: "
                f"{failure.message}; its quality is there"
                if name in measured_ones
                else f"lm-evaluation-harness has not measured {record.key}@{name}: {failure.type}: {failure.message}; "
                f"without a quality it is left out of the front: {again}"
                for name, failure in missing.items()
                if failure is not None
            ]
            continue
        asked = set(cast(dict[str, Any], record.config["evaluation"]).get("harness_tasks") or ())
        measured = {run.candidate for run in read_harness(store, record.key) if asked <= set(run.tasks)}
        problems += [
            f"lm-evaluation-harness has not measured {record.key}@{name}: {failure.type}: {failure.message}; measure "
            f"it with: {_harness_command(store, record, name)}"
            for name, failure in missing.items()
            if failure is not None and name not in measured
        ]
    return problems


def _harness_command(store: Store, record: TrialRecord, candidate: str) -> str:
    """The command that measures a candidate as its trial would have."""
    evaluation = cast(dict[str, Any], record.config["evaluation"])
    command = ["prunedlora", "harness", store.uri, f"{record.key}@{candidate}"]
    for task in evaluation.get("harness_tasks") or ():
        command += ["--task", task]
    for name, value in (evaluation.get("harness") or {}).items():
        if value is True:
            command.append(_option(name))
        elif value is not None and value is not False:
            command += [_option(name), str(value)]
    return shlex.join(command)


def _option(field: str) -> str:
    """The option of `prunedlora harness` for a field of HarnessConfig."""
    return "--" + field.replace("_", "-")


def typed(argv: Sequence[str]) -> str:
    """A process's arguments as one types them: a script with its interpreter, a program by its name."""
    program = ["python", argv[0]] if argv[0].endswith(".py") else [os.path.basename(argv[0])]
    return shlex.join([*program, *argv[1:]])


def write_stats(store: Store, result: SweepResult, slots: Collection[Mapping[str, Any]]) -> None:
    """Figures of the run for the benchmark: how long, how busy each slot was. `slots`: of the board's snapshot."""
    stats = {
        "ending": result.ending,
        "num_kept": result.num_kept,
        "num_resumed": result.num_resumed,
        "num_new": result.num_new,
        "num_failed": result.num_failed,
        "num_repeats": result.num_repeats,
        "num_slots": len(slots),
        "startup_seconds": result.startup_seconds,
        "wall_seconds": result.wall_seconds,
        "slots": [
            {
                "busy_seconds": slot["busy_seconds"],
                "num_finished": slot["num_finished"],
                "available_seconds": time.time() - slot["joined_at"] if slot["joined_at"] else 0.0,
            }
            for slot in slots
        ],
    }
    store.storage.write_text(STATS_FILE, json.dumps(stats, indent=1) + "\n")


def show(result: SweepResult, console: Console) -> None:
    """Prints the report and what the run did."""
    print_report(result.summary, console)
    lines = [
        f"Trials: {result.num_kept} kept, {result.num_resumed} resumed, {result.num_new} new, "
        f"{result.num_failed} failed; {result.ending}. {result.wall_seconds:.0f} s"
        + (f", of which {result.startup_seconds:.0f} s start of the slots." if result.startup_seconds else "."),
        *repeat_lines(result.num_repeats),
        *(f"Problem: {problem}" for problem in result.problems),
    ]
    if result.ending in EARLY:
        raised = "Raise max_device_hours and run" if result.ending == "the device hours are spent" else "Run"
        lines.append(f"{raised} the same command again to go on.")
    for line in lines:
        print_plain(console, line)


def repeat_lines(number: int) -> list[str]:
    """What is told at the end of asks that repeated one."""
    if number == 0:
        return []
    asks = "1 ask was" if number == 1 else f"{number} asks were"
    return [f"Repeats: {asks} for a configuration that had been tried, and counted as no trial."]
