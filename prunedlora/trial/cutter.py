"""Free cuts of a candidate: made of it without training, looked at on a few examples, and evaluated like any candidate
where they could matter. The training goes on as if nothing had been cut, whatever becomes of a cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from prunedlora.adapters.set_aside import set_aside
from prunedlora.config.cuts import CutsConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.pruning.target import Start
from prunedlora.results.record import Candidate, Cut, ExampleOutcomes, Figure, ScreenedCut
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import NonFiniteError, Verdict
from prunedlora.training.memory import TooLittleMemoryError
from prunedlora.training.trial import Trial
from prunedlora.trial.assets import Assets
from prunedlora.trial.candidates import validation_examples
from prunedlora.trial.cut_sizes import are_cuts_due, asked_cuts, checked_start
from prunedlora.trial.evaluation_clock import EvaluationClock
from prunedlora.trial.few_examples import evaluated_on_few, forget_evaluation
from prunedlora.trial.possible_cuts import PossibleCut, possible_cuts
from prunedlora.trial.screening import Screened, beaten_by

OF_THE_CUT = (NonFiniteError, TooLittleMemoryError)
"""What evaluating a cut may raise, on all workers alike: it says nothing of the training, which had the same adapter
whole, and leaves the cut out."""


class PausedAmongCutsError(Exception):
    """A pause was asked for while cuts are left to make; a checkpoint is on its way that holds what is made. Raised on
    all workers alike."""


@dataclass(frozen=True)
class Cutter:
    """Makes the cuts of one trial. All workers call it alike."""

    settings: CutsConfig
    config: TrialConfig
    live: Trial
    assets: Assets
    workers: Workers
    start: Start = field(init=False)
    """The layers at the start of the training, which shares are of."""

    @classmethod
    def of(cls, config: TrialConfig, live: Trial, assets: Assets, workers: Workers) -> Self | None:
        """For a trial that is attached and not yet put where its checkpoint was; None where there are no cuts.

        Raises SettingsError for a size that cannot be, or takes nothing.
        """
        settings = config.free_cuts
        return None if settings is None else cls(settings, config, live, assets, workers)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", checked_start(self.config, Start.of_layers(self.live.method.layers)))

    @property
    def are_due(self) -> bool:
        """Whether the candidate of the step that the training stands at is to be cut."""
        return are_cuts_due(self.settings, self.live.step, self.live.course)

    def make(
        self,
        candidates: Sequence[Candidate],
        screened_cuts: list[ScreenedCut],
        outcomes_of: Callable[[str], ExampleOutcomes | None],
        add_candidate: Callable[[Cut, Outcomes | None], Verdict],
        save: Callable[[], None],
        log: Callable[[dict[str, Any]], None],
        *,
        verdict: Verdict = Verdict.CONTINUE,
        can_pause: bool = False,
        choosing: Callable[[str], Verdict] = lambda _: Verdict.CONTINUE,
    ) -> Verdict:
        """Makes the candidates of all cuts that are not there yet, by `add_candidate`; STOP ends it, and PAUSE where
        `can_pause`. Elsewhere a PAUSE is returned once all are made.

        Args:
            candidates: with the one that is cut; `add_candidate` adds to them.
            screened_cuts: of this trial so far; what is found of those of this candidate is added.
            outcomes_of: what is stored of a candidate by name; asked on rank 0.
            add_candidate: given the cut, and its outcomes where all validation examples were screened.
            save: called before every candidate: what is there already need not be made again.
            log: told once, of all cuts, what becomes of them, and of each that is left out later.
            verdict: on the candidate that is cut.
            can_pause: whether `save` leaves a checkpoint.
            choosing: told what is done until it is known which cuts are evaluated; PAUSE is obeyed where `can_pause`.
                Of a single worker alone: several would have to agree on it between any two passes.

        Raises PausedAmongCutsError.
        """
        step, layers = self.live.step, self.live.method.layers
        made = {each.cut for each in candidates if each.step == step}
        known = [each for each in screened_cuts if each.step == step]
        wanted = [each.cut for each in known if each.is_wanted] if known else list(asked_cuts(self.settings))
        if made.issuperset(wanted):
            return verdict
        outcomes: dict[Cut, Outcomes] = {}

        def go_on(what: str) -> None:
            if self.workers.num_workers == 1 and choosing(f"choosing cuts: {what}") is Verdict.PAUSE and can_pause:
                save()
                raise PausedAmongCutsError

        with set_aside(layers):
            if verdict is Verdict.PAUSE and can_pause:
                save()
                raise PausedAmongCutsError
            with EvaluationClock(self.live.evaluation_seconds).part("cuts"):
                bases = {cut.basis for cut in wanted if cut not in made}
                possible, left_out = possible_cuts(self.settings, self.live, self.workers, self.start, bases, go_on)
                if not known:
                    known, outcomes = self._looked_at(possible, left_out, candidates, outcomes_of, go_on)
                    screened_cuts += known
                    wanted = [each.cut for each in known if each.is_wanted]
                    log(self._account(known, outcomes))
            for cut in wanted:
                if cut in left_out and cut not in made:  # its basis could be had before the training was interrupted
                    self._leave_out(cut, left_out[cut], screened_cuts, log)
            to_make = [each for each in possible if each.cut in wanted and each.cut not in made]
            for each in to_make:
                save()
                if verdict is Verdict.PAUSE and can_pause:
                    raise PausedAmongCutsError
                each.put_on(layers)
                halvings = self.live.fit.evaluation_halvings
                try:
                    answer = add_candidate(each.cut, outcomes.get(each.cut))
                except OF_THE_CUT as error:
                    reason = str(error)
                else:
                    verdict = verdict if answer is Verdict.CONTINUE else answer
                    if verdict is Verdict.STOP:
                        break
                    continue
                forget_evaluation(
                    self.live, halvings, self.workers
                )  # out of the handler: the error holds what was made
                self._leave_out(each.cut, reason, screened_cuts, log)
        return verdict

    def _looked_at(
        self,
        possible: Sequence[PossibleCut],
        left_out: dict[Cut, str],
        candidates: Sequence[Candidate],
        outcomes_of: Callable[[str], ExampleOutcomes | None],
        go_on: Callable[[str], None],
    ) -> tuple[list[ScreenedCut], dict[Cut, Outcomes]]:
        """What is found of all cuts that were asked for, in that order; and the outcomes of those whose loss was
        measured on all validation examples."""
        num_examples = self.settings.screen_examples
        available = len(validation_examples(self.config, self.assets))
        outcomes: dict[Cut, Outcomes] = {}
        losses: dict[Cut, Figure] = {}
        beaten: dict[Cut, str | None] = {}
        left_out = dict(left_out)
        if num_examples is not None:
            rivals: dict[Cut, Screened] = {}
            for number, each in enumerate(possible, 1):
                go_on(f"trying {number} of {len(possible)} on {min(num_examples, available)} examples")
                each.put_on(self.live.method.layers)
                found = evaluated_on_few(self.live, self.config, self.assets, self.workers, num_examples)
                if isinstance(found, str):
                    left_out[each.cut] = found
                    continue
                outcomes[each.cut] = found
                rivals[each.cut] = Screened.of(f"{self.live.step}{each.cut.name}", each.num_params, found)
                losses[each.cut] = Figure(**vars(rivals[each.cut].loss))
            if self.workers.rank == 0:
                others = [
                    Screened.of(candidate.name, candidate.adapter_params, stored, min(num_examples, available))
                    for candidate in candidates
                    if (stored := outcomes_of(candidate.name)) is not None
                ]
                beaten = {cut: beaten_by(rival, [*rivals.values(), *others]) for cut, rival in rivals.items()}
            beaten = self.workers.from_first(beaten)
        sizes = {each.cut: each.num_params for each in possible}
        known = [
            ScreenedCut(
                step=self.live.step,
                cut=cut,
                adapter_params=sizes.get(cut),
                loss=losses.get(cut),
                beaten_by=beaten.get(cut),
                left_out=left_out.get(cut),
            )
            for cut in asked_cuts(self.settings)
        ]
        return known, outcomes if num_examples is not None and num_examples >= available else {}

    def _leave_out(
        self, cut: Cut, reason: str, screened_cuts: list[ScreenedCut], log: Callable[[dict[str, Any]], None]
    ) -> None:
        step = self.live.step
        for index, each in enumerate(screened_cuts):
            if (each.step, each.cut) == (step, cut):
                screened_cuts[index] = each.model_copy(update={"left_out": reason})
        log({"step": step, "cuts": {"left_out": {f"{step}{cut.name}": reason}}})

    def _account(self, known: Sequence[ScreenedCut], outcomes: dict[Cut, Outcomes]) -> dict[str, Any]:
        """What the log says of the cuts of one candidate."""
        evaluated = [each for each in known if each.is_wanted]
        num_again = 0 if outcomes and self.config.generate is None else len(evaluated)
        return {
            "step": self.live.step,
            "cuts": {
                "evaluated": [each.name for each in evaluated],
                "passed_over": {each.name: each.beaten_by for each in known if each.beaten_by is not None},
                "left_out": {each.name: each.left_out for each in known if each.left_out is not None},
                "examples_screened": sum(each.loss.num_examples for each in known if each.loss is not None),
                "examples_evaluated": num_again * len(validation_examples(self.config, self.assets)),
            },
        }
