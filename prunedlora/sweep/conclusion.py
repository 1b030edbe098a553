"""Conclusion: report, figures and print at the end of a run, the same for all ways to run a sweep."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from prunedlora.results.analysis.summary import Summary
from prunedlora.results.report.report import write_report_of
from prunedlora.study.asker import Asker
from prunedlora.sweep.outcome import Ending, SweepResult, harness_problems, show, write_stats


@dataclass(frozen=True)
class Conclusion:
    """What a run comes to its end with."""

    began: float
    """By time.monotonic()."""
    ending: Ending
    asker: Asker
    num_ended: int
    """Trials that this run ended."""
    startup_seconds: float
    problems: Sequence[str]
    """What went wrong beside the trials, the asker's and the harness's apart."""
    slots: Collection[Mapping[str, Any]]
    """As `write_stats` takes them."""


def conclude(summary: Summary, end: Conclusion, console: Console) -> SweepResult:
    """Writes the report and the run's figures into the store, and prints both. Raises StoreError, RecordError."""
    write_report_of(summary)
    asker = end.asker
    result = SweepResult(
        summary=summary,
        ending=end.ending,
        num_kept=asker.num_kept,
        num_resumed=asker.num_resumed,
        num_new=max(0, end.num_ended - asker.num_resumed),
        num_failed=len(summary.failed),
        startup_seconds=end.startup_seconds,
        wall_seconds=time.monotonic() - end.began,
        num_repeats=asker.num_repeats,
        problems=(*end.problems, *asker.problems, *harness_problems(summary.store, summary.records)),
    )
    write_stats(summary.store, result, end.slots)
    show(result, console)
    return result
