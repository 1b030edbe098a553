"""Free cuts of a candidate: made of it without training, looked at on a few examples, and evaluated like any candidate
where they could matter. The training goes on as if nothing had been cut."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Self

from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.adapters.set_aside import set_aside
from prunedlora.adapters.shrink import set_factors
from prunedlora.config.cuts import CutsConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.pruning.cut import Decomposed, Factors, decompose, ranks_left
from prunedlora.pruning.target import Start, Target
from prunedlora.registry import lookup
from prunedlora.results.record import Candidate, Cut, ExampleOutcomes, Figure, ScreenedCut
from prunedlora.settings_error import SettingsError
from prunedlora.training.calibration import second_moments
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.loop import NonFiniteError, Verdict
from prunedlora.training.trial import Trial
from prunedlora.trial.assets import Assets
from prunedlora.trial.candidates import validation_examples
from prunedlora.trial.evaluation_clock import EvaluationClock
from prunedlora.trial.screening import Rival, beaten_by


@dataclass(frozen=True)
class PlannedCuts:
    """How many cuts a configuration asks for, known from it alone."""

    num_places: int
    """Candidates that are cut."""
    most_per_place: int
    """Cuts of each at most; those that take nothing, or leave what another one leaves, are not made."""
    screen_examples: int | None
    """Validation examples, at most, on which the loss of every cut is measured first; None: all cuts are evaluated."""


def planned_cuts(config: TrialConfig) -> PlannedCuts:
    """What the configuration asks for in cuts at most: `most_per_place` of zero where there are none."""
    settings = config.free_cuts
    if settings is None:
        return PlannedCuts(0, 0, None)
    num_places = 1
    if settings.at == "every_rung":
        assert config.pruning is not None
        assert config.pruning.ladder is not None
        num_places += len(config.pruning.ladder.rungs.sizes)
    return PlannedCuts(num_places, settings.num_cuts, settings.screen_examples)


def target_of(settings: CutsConfig, size: float) -> Target:
    """One of the sizes, as allocations know it."""
    return Target(settings.sizes.unit, size, settings.min_rank)


def checked_start(settings: CutsConfig, start: Start) -> Start:
    """The layers as they are attached. Raises SettingsError for a size that they cannot be cut to."""
    for allocation, size in product(settings.allocations, settings.sizes.sizes):
        try:
            lookup("allocation", allocation).goal(start, target_of(settings, size))
        except ValueError as error:
            raise SettingsError(f"cuts by allocation {allocation!r}: {error}") from error
    return start


@dataclass(frozen=True)
class PossibleCut:
    """A cut of what stands there now."""

    cut: Cut
    ranks: tuple[int, ...]
    decomposed: Decomposed

    @property
    def num_params(self) -> int:
        return sum(rank * width for rank, width in zip(self.ranks, self.decomposed.widths, strict=True))

    def put_on(self, layers: Sequence[AdaptedLayer]) -> None:
        """Gives the layers, whose own factors are set aside, those of the cut."""
        for layer, (A, B) in zip(layers, self.decomposed.cut(self.ranks), strict=True):
            set_factors(layer, A, B, None, None if layer.gate is None else layer.gate.new_ones(len(A)))


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

        Raises SettingsError for a size that cannot be.
        """
        settings = config.free_cuts
        return None if settings is None else cls(settings, config, live, assets, workers)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", checked_start(self.settings, Start.of_layers(self.live.method.layers)))

    @property
    def are_due(self) -> bool:
        """Whether the candidate of the step that the training stands at is to be cut."""
        step, course = self.live.step, self.live.course
        if self.settings.at == "end":
            return step == course.num_steps
        return any(step == rung.end for rung in course.rungs)

    def make(
        self,
        candidates: Sequence[Candidate],
        screened_cuts: list[ScreenedCut],
        outcomes_of: Callable[[str], ExampleOutcomes | None],
        add_candidate: Callable[[Cut], Verdict],
        save: Callable[[], None],
        log: Callable[[dict[str, Any]], None],
    ) -> Verdict:
        """Makes the candidates of all cuts that are not there yet, by `add_candidate`; STOP ends it.

        Args:
            candidates: with the one that is cut; `add_candidate` adds to them.
            screened_cuts: of this trial so far; those of this candidate are added.
            outcomes_of: what is stored of a candidate by name; asked on rank 0.
            save: called before every candidate: what is there already need not be made again.
            log: told once, of all cuts, what becomes of them.
        """
        step, layers = self.live.step, self.live.method.layers
        screened = [each for each in screened_cuts if each.step == step]
        wanted = [each.cut for each in screened if each.beaten_by is None] if screened else list(self._asked())
        made = {each.cut for each in candidates if each.step == step}
        if made.issuperset(wanted):
            return Verdict.CONTINUE
        with set_aside(layers):
            clock = EvaluationClock(self.live.evaluation_seconds)
            with clock.part("cuts"):
                possible, left_out = self._possible({cut.basis for cut in wanted})
            if not screened:
                if self.settings.screen_examples is not None:
                    with clock.part("cuts"):
                        screened = self._screen(possible, candidates, outcomes_of, self.settings.screen_examples)
                    screened_cuts += screened
                log(self._account(possible, left_out, screened))
            made |= {each.cut for each in screened if each.beaten_by is not None}
            verdict = Verdict.CONTINUE
            for each in possible:
                if each.cut in made:
                    continue
                save()
                each.put_on(layers)
                verdict = add_candidate(each.cut)
                if verdict is Verdict.STOP:
                    break
        return verdict

    def _asked(self) -> Iterator[Cut]:
        settings = self.settings
        for size, basis, allocation in product(settings.sizes.sizes, settings.bases, settings.allocations):
            yield Cut(basis=basis, allocation=allocation, unit=settings.sizes.unit, size=size)

    def _possible(self, bases: set[str]) -> tuple[list[PossibleCut], dict[str, str]]:
        """The cuts by these bases, and by name those that are none, with the reason."""
        layers, step = self.live.method.layers, self.live.step
        factors = [(layer.A.detach(), layer.B.detach()) for layer in layers]
        decomposed = {basis: self._decompose(basis, factors) for basis in self.settings.bases if basis in bases}
        possible: list[PossibleCut] = []
        left_out: dict[str, str] = {}
        for cut in self._asked():
            if cut.basis not in bases:
                continue
            found = decomposed[cut.basis]
            ranks = tuple(ranks_left(found, target_of(self.settings, cut.size), cut.allocation, self.start))
            same = next((e.cut.name for e in possible if (e.cut.basis, e.ranks) == (cut.basis, ranks)), None)
            if list(ranks) == found.ranks:
                left_out[f"{step}{cut.name}"] = "takes nothing"
            elif same is not None:
                left_out[f"{step}{cut.name}"] = f"is {step}{same}"
            else:
                possible.append(PossibleCut(cut, ranks, found))
        return possible, left_out

    def _decompose(self, basis: str, factors: Sequence[Factors]) -> Decomposed:
        settings, layers, moments = self.settings, self.live.method.layers, None
        if basis == "whitened":
            assert settings.calibration_examples is not None
            moments = second_moments(self.live, layers, self.workers, settings.calibration_examples)
        return decompose(factors, [layer.scaling for layer in layers], moments, settings.damping)

    def _screen(
        self,
        possible: Sequence[PossibleCut],
        candidates: Sequence[Candidate],
        outcomes_of: Callable[[str], ExampleOutcomes | None],
        num_examples: int,
    ) -> list[ScreenedCut]:
        """The loss of every cut on the first examples, and which adapter clearly beats it there."""
        live, layers = self.live, self.live.method.layers
        examples = validation_examples(self.config, self.assets)[:num_examples]
        rivals: list[Rival] = []
        for each in possible:
            each.put_on(layers)
            outcomes = evaluate(
                live.model,
                self.assets.task,
                examples,
                batch_size=self.config.evaluation.batch_size,
                dtype=live.dtype,
                workers=self.workers,
                fit=live.fit,
                generate=False,
            )
            rival = Rival.of(f"{live.step}{each.cut.name}", each.num_params, outcomes)
            if not math.isfinite(rival.loss.value):
                raise NonFiniteError(f"validation loss of cut {rival.name} is {rival.loss.value}")
            rivals.append(rival)
        beaten: list[str | None] = []
        if self.workers.rank == 0:
            others = [
                Rival.of(candidate.name, candidate.adapter_params, stored, len(examples))
                for candidate in candidates
                if (stored := outcomes_of(candidate.name)) is not None
            ]
            beaten = [beaten_by(rival, [*rivals, *others]) for rival in rivals]
        beaten = self.workers.from_first(beaten)
        return [
            ScreenedCut(
                step=live.step,
                cut=each.cut,
                adapter_params=rival.num_params,
                loss=Figure(**vars(rival.loss)),
                beaten_by=winner,
            )
            for each, rival, winner in zip(possible, rivals, beaten, strict=True)
        ]

    def _account(
        self, possible: Sequence[PossibleCut], left_out: dict[str, str], screened: Sequence[ScreenedCut]
    ) -> dict[str, Any]:
        """What the log says of the cuts of one candidate."""
        step, num_all = self.live.step, len(validation_examples(self.config, self.assets))
        passed_over = {each.name: each.beaten_by for each in screened if each.beaten_by is not None}
        evaluated = [name for each in possible if (name := f"{step}{each.cut.name}") not in passed_over]
        return {
            "step": step,
            "cuts": {
                "evaluated": evaluated,
                "passed_over": passed_over,
                "left_out": left_out,
                "examples_screened": sum(each.loss.num_examples for each in screened),
                "examples_evaluated": num_all * len(evaluated),
            },
        }
