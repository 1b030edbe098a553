"""Looks at a trial on the way: its loss on a few validation examples, and whether it goes on by it. The training is the
same with looks and without."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Decision, ExampleOutcomes, Figure, Look, StoredLook
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.training.course import Course
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.training.trial import Trial
from prunedlora.trial.assets import Assets
from prunedlora.trial.candidates import validation_examples
from prunedlora.trial.evaluation_clock import EvaluationClock
from prunedlora.trial.few_examples import evaluated_on_few
from prunedlora.trial.last_removal import last_removal
from prunedlora.trial.screening import Screened

Judge = Callable[[StoredLook, bool], Mapping[str, Any] | None]
"""Told a look, and whether it was decided on before; gives the decision as a Decision's fields, None where there is
none."""


@dataclass(frozen=True)
class Looking:
    """How a trial is looked at, and who is asked."""

    settings: StoppingConfig
    judge: Judge
    """Called on rank 0 with every look."""

    @property
    def keeps_checkpoint(self) -> bool:
        """Whether a trial that is stopped may go on later."""
        return self.settings.then == "pause"


@dataclass(frozen=True)
class Looker:
    """Looks at one trial. All workers call it alike."""

    looking: Looking
    config: TrialConfig
    live: Trial
    assets: Assets
    workers: Workers
    store: Store
    key: str
    check_writer: Callable[[], None]
    log: Callable[[dict[str, Any]], None]

    @property
    def steps(self) -> frozenset[int]:
        """After which is looked though there is no candidate."""
        return look_steps(self.looking.settings.looks, self.live.course)

    def look(self, candidate: str | None = None) -> Verdict:
        """STOP where the trial ends here; what that was decided by is in the store then. `candidate`: the name of the
        one that the training stands at; None: there is none.

        A look that is in the store is neither taken nor decided again, so that a trial that was killed repeats it. One
        that cannot be taken, for want of memory or by a loss that is not finite, is left out and the log says so: a
        store holds finite figures only, and a training that has diverged fails by itself, at the next of its own losses
        that is not finite. Raises StaleWriterError.
        """
        step, is_first = self.live.step, self._is_first
        if not 0 < step < self.live.num_steps:
            return Verdict.CONTINUE
        known = self.store.read_look(self.key, step) if is_first else None
        if known is not None and known.look.loss.num_examples != self._num_examples:
            known = None  # by other settings of the sweep
        if not self.workers.from_first(known is not None):
            stored, reason = self._taken(candidate)
            if reason is not None:
                self.log({"step": step, "look": {"left_out": reason}})
                return Verdict.CONTINUE
            found = None if stored is None else self._decided(stored)
        else:
            found = known
            if known is not None:
                self.looking.judge(known, True)
        stops = self.workers.from_first(self._stops(found.look) if found is not None else None)
        return Verdict.STOP if stops else Verdict.CONTINUE

    @property
    def _num_examples(self) -> int:
        available = len(validation_examples(self.config, self.assets))
        return min(self.looking.settings.examples or available, available)

    def _taken(self, candidate: str | None) -> tuple[StoredLook | None, str | None]:
        """The look, on rank 0 alone; or why it is left out, on all workers alike."""
        with EvaluationClock(self.live.evaluation_seconds).part("looks"):
            if candidate is None:
                found = evaluated_on_few(self.live, self.config, self.assets, self.workers, self._num_examples)
                if isinstance(found, str):
                    return None, found
                return (self._stored(found) if self._is_first else None), None
            if not self._is_first:
                return None, None
            measured = self.store.read_outcomes(self.key, candidate)  # on all examples, which were finite
            assert measured is not None
            return self._stored(measured), None

    @property
    def _is_first(self) -> bool:
        return self.workers.rank == 0

    def _stored(self, outcomes: Outcomes | ExampleOutcomes) -> StoredLook:
        live, num_examples = self.live, self._num_examples
        removed = last_removal(self.config, live.num_steps, live.step)
        look = Look(
            step=live.step,
            share=live.progress,
            loss=Figure(**vars(Screened.of("", 0, outcomes, num_examples).loss)),
            last_removal=None if removed is None else removed / live.num_steps,
        )
        sums, targets = outcomes.loss_sums[:num_examples], outcomes.num_targets[:num_examples]
        return StoredLook(look=look, loss_sums=tuple(sums), num_targets=tuple(targets))

    def _decided(self, stored: StoredLook) -> StoredLook:
        """The look with its decision, which is in the store before anything follows from it."""
        answer = self.looking.judge(stored, False)
        decision = None if answer is None else Decision.model_validate(answer)
        decided = stored.model_copy(update={"look": stored.look.model_copy(update={"decision": decision})})
        self.check_writer()
        self.store.write_look(self.key, decided)
        told: dict[str, Any] = {"loss": stored.look.loss.value}
        if decision is not None:
            told |= {"stops": decision.stops, "beaten_by": [each.by for each in decision.beaten_by]}
        self.log({"step": stored.look.step, "look": told})
        return decided

    def _stops(self, look: Look) -> bool:
        if look.decision is None or not look.decision.stops:
            return False
        goes_on = self.store.read_goes_on(self.key)
        return goes_on is None or goes_on.step != look.step


def look_steps(shares: list[float], course: Course) -> frozenset[int]:
    """The steps of a training that are nearest to these shares, where no candidate is made. Of one within a branch,
    whose adapter is halfway through its decay, the step that the branch leaves the line at."""
    steps = set()
    for share in shares:
        step = round(share * course.num_steps)
        if course.is_in_branch(step):
            rung = course.rung(step)
            assert rung is not None
            step = rung.branch
        steps.add(step)
    return frozenset(step for step in steps if 0 < step < course.num_steps) - course.candidates
