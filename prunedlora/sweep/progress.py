"""Progress: what a sweep shows while it runs. A live view on a terminal, plain lines elsewhere (a job's log).

Reads only the board's snapshots, the store's records and the configurations of what is in training.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunedlora.results.analysis.pareto import Objectives, Point, front, points
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.sweep.live_view import LiveView
from prunedlora.sweep.slot_rungs import SlotRungs
from prunedlora.sweep.trial_line import clock, ended_line

LINE_SECONDS = 60.0
MOST_FRONT_ROWS = 8


@dataclass(frozen=True)
class _Standing:
    """How the sweep stands by the trials that have ended; worked out when one has, not whenever it is shown."""

    num_failed: int
    mean_seconds: float | None
    """Of training and evaluating, of a trial that did not fail; None while there is none."""
    best: Point | None
    front: list[Point]


class Progress:
    """Call `update` as often as is handy; used as a context manager it keeps the terminal tidy."""

    def __init__(
        self,
        store: Store,
        objectives: Objectives,
        num_trials: int,
        console: Console,
        records: Iterable[TrialRecord],
    ) -> None:
        """`num_trials`: trials of the sweep, those of earlier runs included, whose `records` these are."""
        self._store = store
        self._objectives = objectives
        self._num_trials = num_trials
        self._records: dict[str, TrialRecord] = {record.key: record for record in records}
        self._rungs = SlotRungs(store)
        self._standing = self._stand()
        self._seen: set[tuple[str, str]] = set()
        """Keys and how they ended: one that was stopped may go on."""
        self._shown: RenderableType = ""
        self._view = LiveView(console, lambda: self._shown)
        self._began = time.monotonic()
        self._last_line = ("", 0.0)

    def __enter__(self) -> Self:
        self._view.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._view.__exit__(*error)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._view.say(text)

    def update(self, snapshot: dict[str, Any]) -> None:
        """Shows how things stand: on a terminal always, elsewhere when a trial has ended or a minute has passed."""
        fresh = []
        ended = {each for each in snapshot["ended"].items() if each[1] != "paused"}  # which leaves no record
        for key, status in ended - self._seen:
            try:
                record = self._store.read_record(key)
            except StoreError:  # what is shown can wait for the next look; what cannot be done without is read again
                continue
            if record is not None:
                self._seen.add((key, status))
                fresh.append(record)
                self._records[key] = record
        if fresh:
            self._standing = self._stand()
        if self._view.is_live:
            for record in fresh:
                if record.stopped_at is not None:
                    self.say(ended_line(record, self._objectives.quality))
            self._shown = self._view_of(snapshot)
            return
        for record in fresh:
            self.say(ended_line(record, self._objectives.quality))
        line = self._summary_line(snapshot)
        told, at = self._last_line
        now = time.monotonic()
        if fresh or now - at >= LINE_SECONDS or not told:
            self.say(line)
            self._last_line = (line, now)

    def seconds_left(self, snapshot: dict[str, Any]) -> float | None:
        """Estimate from the mean time of training and evaluating so far; None while no trial of this run has ended."""
        mean = self._standing.mean_seconds
        if mean is None or not self._seen:
            return None
        steps = [slot for slot in snapshot["slots"].values() if slot["work"] is not None and slot["num_steps"]]
        begun = sum(slot["step"] / slot["num_steps"] for slot in steps)
        num_open = sum(slot["state"] not in ("closed", "waiting for resources") for slot in snapshot["slots"].values())
        return max(0.0, (self._num_trials - len(self._records) - begun) * mean / max(1, num_open))

    def _stand(self) -> _Standing:
        every = points(self._records.values(), self._objectives)
        times = [
            record.train_seconds + (record.evaluation_seconds or 0.0)  # None in older records
            for record in self._records.values()
            if record.status != "failed"
        ]
        return _Standing(
            num_failed=len(self._records) - len(times),
            mean_seconds=sum(times) / len(times) if times else None,
            best=max(every, key=lambda point: self._objectives.gain(point.quality.value), default=None),
            front=front(every, self._objectives),
        )

    def _summary_line(self, snapshot: dict[str, Any]) -> str:
        failed = self._standing.num_failed
        parts = [f"{len(self._records) - failed}/{self._num_trials} done", f"{snapshot['running']} running"]
        parts.append(f"{failed} failed")
        stopped = sum(record.status == "stopped" for record in self._records.values())
        if stopped:
            parts.append(f"{stopped} of those done were stopped")
        best = self._standing.best
        if best is not None:
            parts.append(f"best {self._objectives.quality} {figure_text(best.quality)}")
        states = [slot["state"] for slot in snapshot["slots"].values()]
        if "waiting for resources" in states:
            parts.append(f"{states.count('waiting for resources')} of {len(states)} slots wait for resources")
        elif all(state == "starting" for state in states):
            parts.append("slots are starting")
        left = self.seconds_left(snapshot)
        parts.append(f"{clock(time.monotonic() - self._began)} elapsed")
        if left is not None:
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    def _view_of(self, snapshot: dict[str, Any]) -> RenderableType:
        return Group(Text(self._summary_line(snapshot), style="bold"), self._slots_table(snapshot), self._front_table())

    def _slots_table(self, snapshot: dict[str, Any]) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("slot", "state", "trial", "step", "", "", "tokens/s"):
            table.add_column(name, style="dim" if name == "slot" else "")
        for number, slot in snapshot["slots"].items():
            work = slot["work"]
            what = "" if work is None else work["key"] if work["kind"] == "trial" else f"{work['kind']} evaluation"
            step = f"{slot['step']}/{slot['num_steps']}" if slot["num_steps"] else ""
            is_trial = work is not None and work["kind"] == "trial"
            speed = slot["tokens_per_second"] if is_trial else None
            speed = "" if speed is None else f"{speed:,.0f}"
            rung = self._rungs.text(what, slot["step"], slot["num_steps"]) if is_trial else ""
            so_far = self._newest(slot["last"]) if is_trial else ""
            table.add_row(str(number), slot["state"], what, step, rung, so_far, speed)
        return table

    def _newest(self, last: dict[str, Any] | None) -> str:
        """The newest candidate of a trial in training, which is on no front before the trial has ended."""
        if last is None:
            return ""
        quality, figures = self._objectives.quality, last["figures"]
        name = quality if quality in figures else "loss"  # its loss was too bad for more to be measured
        value = f"{name} {figures[name]:.3f}, " if name in figures else ""
        return f"last {value}{last['adapter_params']:,} parameters"

    def _front_table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in (self._objectives.quality, self._objectives.size, "trial", "step"):
            table.add_column(name, justify="right")
        best = self._standing.front
        for point in best[:MOST_FRONT_ROWS]:
            table.add_row(figure_text(point.quality), f"{point.size:,.0f}", point.key, point.candidate.name)
        if len(best) > MOST_FRONT_ROWS:
            table.add_row(f"… {len(best) - MOST_FRONT_ROWS} more", "", "", "")
        return table
