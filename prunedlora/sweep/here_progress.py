"""Progress of trials that this process runs itself: which candidate is evaluated, how many are done, the time left.

A candidate's line stays. What is going on is a live line on a terminal, and a plain one each minute elsewhere.
"""

import time
from typing import Any, Self

from rich.console import Console
from rich.text import Text

from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.sweep.evaluation_cost import most_candidates
from prunedlora.sweep.live_view import LiveView
from prunedlora.sweep.trial_line import candidate_text, clock, ended_line

LINE_SECONDS = 60.0


class HereProgress:
    """Told by whoever runs the trials; `tick` may be called by another thread. As a context manager it keeps the
    terminal tidy."""

    def __init__(self, console: Console, quality: str, num_trials: int, num_ended: int) -> None:
        """`quality`: the sweep's objective; `num_trials`: of the sweep, of which `num_ended` ended in earlier runs."""
        self._quality = quality
        self._num_trials = num_trials
        self._num_ended = num_ended
        self._trial: TrialConfig | None = None
        """In hand."""
        self._doing = "starting"
        self._num_found = 0
        """Candidates of the trial in hand."""
        self._most: int | None = None
        """How many it comes to at most; None while that is not known."""
        self._step = 0
        self._num_steps: int | None = None
        self._began = self._told_at = self._mark = time.monotonic()
        self._evaluated_since: float | None = None
        self._is_choosing = False
        """Cuts, which takes a time that nothing tells before."""
        # Of all trials of this run, for the time that is left.
        self._step_seconds = self._evaluation_seconds = 0.0
        self._num_stepped = self._num_evaluated = 0
        self._view = LiveView(console, lambda: Text(self.line()))

    def __enter__(self) -> Self:
        self._view.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._view.__exit__(*error)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._told_at = time.monotonic()
        self._view.say(text)

    def tick(self) -> None:
        """Where there is no live line: says how things stand when nothing was said for a minute."""
        if not self._view.is_live and time.monotonic() - self._told_at >= LINE_SECONDS:
            self.say(self.line())

    def begin(self, key: str, label: str | None, trial: TrialConfig, num_found: int) -> None:
        """A trial is begun, or gone on with, of which an earlier run has found candidates."""
        self._trial, self._num_found, self._most, self._step, self._num_steps = trial, num_found, None, 0, None
        self._doing, self._is_choosing = "loading model and data", False
        if trial.training.num_steps is not None:
            self._expect(trial.training.num_steps)
        name = key if label is None else f"{label} ({key})"
        self.say(f"trial {name}" + (f" goes on with {_candidates(num_found)} on record" if num_found else ""))

    def stepped(self, step: int, num_steps: int) -> None:
        """The training has done `step` of its steps."""
        if self._num_steps is None:
            self._expect(num_steps)
        now = time.monotonic()
        if self._step:  # before the first step of an attempt come loading, and the steps of attempts before
            self._step_seconds += now - self._mark
            self._num_stepped += step - self._step
        self._mark, self._step = now, step
        self._doing = f"step {step:,}/{num_steps:,}"

    def evaluating(self, name: str) -> None:
        """A candidate is about to be evaluated."""
        self._evaluated_since, self._is_choosing = time.monotonic(), False
        self._doing = f"evaluating candidate {name}"

    def choosing(self, what: str) -> None:
        """What is done while cuts are chosen; the time that is left is not told."""
        self._doing, self._is_choosing = what, True

    def found(self, content: dict[str, Any]) -> None:
        """A candidate is on record, by its fields."""
        candidate = Candidate.model_validate(content)
        now = time.monotonic()
        if self._evaluated_since is not None:
            self._evaluation_seconds += now - self._evaluated_since
            self._num_evaluated += 1
        self._evaluated_since, self._mark = None, now
        self._num_found += 1
        assert self._trial is not None
        is_trained = self._num_steps is not None and candidate.step >= self._num_steps
        self._doing = (
            "training" if not is_trained else "finishing" if self._trial.free_cuts is None else "choosing cuts"
        )
        self.say(f"candidate {candidate.name}: {candidate_text(candidate, self._quality)} ({self._counts()})")

    def ended(self, record: TrialRecord) -> None:
        """A trial has its record."""
        self._num_ended += 1
        self._trial, self._is_choosing = None, False
        self.say(ended_line(record, self._quality))

    def doing(self, text: str) -> None:
        """What is done beside the trials, from now on."""
        self._doing = text
        self.say(text)

    def line(self) -> str:
        """How things stand."""
        parts = [self._doing]
        if self._num_trials > 1:
            parts.append(f"{self._num_ended}/{self._num_trials} trials done")
        parts.append(f"{clock(time.monotonic() - self._began)} elapsed")
        if self._trial is not None:
            parts.append(self._counts())
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """For the trial in hand and those that follow, taken to be like it, by what steps and candidates of this run
        took so far; None while that cannot be told, as while cuts are chosen. At most, since cuts may turn out not to
        be worth an evaluation."""
        if self._num_steps is None or self._most is None or not self._num_evaluated or self._is_choosing:
            return None
        others = self._num_trials - self._num_ended - 1
        steps = self._num_steps - self._step + others * self._num_steps
        if steps and not self._num_stepped:
            return None
        per_step = self._step_seconds / max(1, self._num_stepped)
        per_candidate = self._evaluation_seconds / self._num_evaluated
        begun = 0.0 if self._evaluated_since is None else time.monotonic() - self._evaluated_since
        candidates = max(0, self._most - self._num_found) + others * self._most
        return steps * per_step + max(0.0, candidates * per_candidate - begun)

    def _expect(self, num_steps: int) -> None:
        assert self._trial is not None
        self._num_steps, self._most = num_steps, most_candidates(self._trial, num_steps)

    def _counts(self) -> str:
        most = "" if self._most is None else f" of at most {self._most}"
        left = self.seconds_left()
        return f"{_candidates(self._num_found, most)} done" + ("" if left is None else f", about {clock(left)} left")


def _candidates(number: int, most: str = "") -> str:
    return f"{number}{most} candidate{'' if number == 1 and not most else 's'}"
