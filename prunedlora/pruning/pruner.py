"""The Pruner: the one object that remembers, between steps, what pruning needs, and says when the functions run.

Maths is in recovery.py, criteria.py and basis.py, an event's course in event.py, choices in allocation.py, timing in
schedules.py and observed_steps.py, statistics in curvature.py and statistics.py, their averages in averages.py,
gradients in gradient_form.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunedlora.adapters.full_float32 import full_float32
from prunedlora.adapters.layers import AdaptedLayer, Side
from prunedlora.pruning.allocation import Allocation, Demand
from prunedlora.pruning.averages import CURVATURE, H_MOMENT, U_MOMENT, Averages, watched
from prunedlora.pruning.criteria import Criterion
from prunedlora.pruning.event import Counts, Known, gather, remove, truncate, with_gradient
from prunedlora.pruning.gradient_form import GradientForm
from prunedlora.pruning.ladder import Rung
from prunedlora.pruning.live import LiveLayer
from prunedlora.pruning.pruning_plan import Plan
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.registry import lookup
from prunedlora.seeds import derive_seed


@dataclass(frozen=True)
class Event:
    """One removal."""

    step: int
    removed: dict[str, list[int]]
    """Layer name → indices that went, as they were numbered just before (in the new basis, where it was changed);
    layers that lost nothing are left out."""
    ranks: dict[str, int]
    """Layer name → rank after the event, all layers."""


class Pruner:
    """Prunes the layers of one adapter while it trains: observe → step → state_dict.

    Owns the averaged statistics; changes the layers' Parameters and the optimizer's state at events only. It begins to
    collect as late as its settings and the length of the training allow (observed_steps.py), and stops once the target
    is reached, on a ladder until the steps that count at the next rung; with nothing to remove it never touches
    anything.

    With `hold`, for a trainer under which shapes must not change, what is removed stays at zero: call `enforce` after
    every optimizer step and `shrink` at the end. The choices are the same.
    """

    def __init__(
        self,
        settings: PruningSettings,
        layers: Sequence[AdaptedLayer],
        *,
        seed: int = 0,
        hold: bool = False,
        num_steps: int | None = None,
        from_start: bool = False,
    ) -> None:
        """`layers` in their initial state; they may be of unequal ranks. `seed`: of what is drawn (criterion "random").
        `num_steps`: length of the training in optimizer steps; a ladder needs it; otherwise None: it is not known, and
        everything is observed from here on. `from_start`: that is so whatever the length.

        Raises ValueError for a target, a schedule or a rung that cannot be, UnknownNameError for an unknown name.
        """
        self.settings = settings
        self._seed = seed
        self._hold = hold
        self._layers = [LiveLayer(layer, hold=hold) for layer in layers]
        self._names = [layer.name for layer in layers]
        self._allocation: Allocation = lookup("allocation", settings.allocation)
        self._plan = Plan(
            settings, [layer.rank for layer in self._layers], [layer.width for layer in self._layers], num_steps
        )
        self._criterion: Criterion | None = None
        if settings.criterion is not None:
            self._criterion = lookup("criterion", settings.criterion)
        self._gradient_form = GradientForm(settings)
        self._averages = Averages(watched(settings, self._criterion), self._layers, settings.ema_decay)
        self._is_discarded = False
        self._from_start = from_start
        self._take_stock()
        self._is_open = not self.is_done
        self._watch(1)

    def statistics(self) -> list[Tensor]:
        """This step's raw statistics, to be summed over data-parallel workers in place before `observe`; none in a step
        that is not observed."""
        return self._averages.statistics()

    def unscale(self, scale: float) -> None:
        """Makes of this step's raw statistics, in place, those of losses that were not multiplied by `scale`, a power
        of two; before `observe`, to which the gradients must come unscaled. Nothing but overflow and underflow tells
        what comes out from what had not been scaled."""
        self._averages.unscale(scale)

    @full_float32
    def observe(self, gradient_scale: float | None = None) -> None:
        """Averages this step's statistics in, from complete, unclipped gradients; before the optimizer step. Does
        nothing in a step that is not observed.

        `gradient_scale`: what makes the mean gradient G and the curvature H ones of the same loss, where
        `needs_gradient_scale`; without effect elsewhere. Of a step with N targets, whose losses counted c times each in
        the backward passes: N c². There H = c² Σ over N, so that N c² G H⁻¹ = (N G) (Σ over N)⁻¹, whatever N and c are;
        c = 1, and the scale N, where losses are summed.

        Raises ValueError where it is needed and not given.
        """
        self._is_discarded = False
        if not self._averages.is_watching:
            return
        self._gradient_form.check(gradient_scale)
        self._averages.observe()
        self._gradient_form.observe(self._layers, gradient_scale)

    def discard(self) -> None:
        """Forgets what this step has collected: for one that begins anew, or, in the place of `observe`, for one that
        is not finite. Nothing is removed after a step that has not been observed since."""
        self._averages.resize()
        self._is_discarded = True

    @full_float32
    def step(self, step: int, progress: float, optimizer: Optimizer | None) -> Event | None:
        """Removes what is due after optimizer step number `step`, when the share `progress` of training is done; to be
        called after every step.

        Events fall on multiples of `every_steps`; the last one on the first step at or after the schedule's end, so
        that the target is met there whatever `every_steps` is. There is none before the first observation or while
        every B is zero: the gradient of A is then zero too.
        """
        event = self._event(step, progress, optimizer)
        self._is_discarded = False
        self._watch(step + 1)
        return event

    def _event(self, step: int, progress: float, optimizer: Optimizer | None) -> Event | None:
        if not self._is_open or self._averages.num_observed == 0 or self._is_discarded:
            return None
        demand = self._plan.demand(step, progress, self._present)
        if demand is None or not self._started():
            return None
        return self._remove_as_an_event(demand, step, optimizer)

    @full_float32
    def begin_rung(self, step: int, optimizer: Optimizer | None) -> Event | None:
        """On a ladder, once the candidate after optimizer step number `step` has been made: the removal of the rung
        that begins there, where all goes at once. It is done once, however often this is called; None where there is
        nothing to do, and where no rung begins.

        Raises ValueError where the choice depends on statistics, and no step before could be observed.
        """
        demand = self._plan.demand_of_rung(step, self._present) if self._is_open else None
        event = None
        if demand is not None:
            if self.settings.ema_decay is not None and self._averages.num_observed == 0:
                raise ValueError(f"the rung that begins after step {step} has no step before it that was observed")
            event = self._remove_as_an_event(demand, step, optimizer)
        self._watch(step + 1)
        return event

    def _remove_as_an_event(self, demand: Demand, step: int, optimizer: Optimizer | None) -> Event:
        removed = self._remove(demand, optimizer, derive_seed(self._seed, "event", step))
        self._gradient_form.forget()
        if self.is_done:
            self.close()
        return Event(step, removed, self.ranks)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Trunk and rungs; none without a ladder."""
        return self._plan.rungs

    def may_remove(self, step: int, progress: float) -> bool:
        """Whether `step` can have an event on this step: a matter of the settings alone, so that all data-parallel
        workers say the same, whatever they have removed."""
        return self._plan.may_remove(step, progress)

    @full_float32
    def scores(self, step: int = 0) -> dict[str, Tensor]:
        """Layer name → the criterion's score of each component by itself (r,), higher = keep, as things stand.

        What an event at `step` looks at first. Raises ValueError for a basis that has components of its own, before
        the first observation, between the rungs of a ladder, and once the target is reached.
        """
        if self._criterion is None or (num := self._averages.num_observed) == 0:
            raise ValueError(f"no scores: basis {self.settings.basis!r}, {num} steps observed")
        if not self._is_open:
            raise ValueError("no scores: the target is reached, nothing is observed any more")
        if not self._averages.is_watching:
            raise ValueError(f"no scores: the next rung's steps are observed from step {self._first_observed} on")
        known = self._known(0, derive_seed(self._seed, "event", step))
        evidence = known.evidence
        gradients = self._gradient_form.gradients(self._averages.num_observed)
        if gradients is not None and self.settings.gradient_cap is not None:
            evidence, _ = with_gradient(self._layers, known, gradients, self.settings.gradient_cap)
        scores = self._criterion.scores(evidence)
        return {
            name: scores[index, : layer.rank]
            for index, (name, layer) in enumerate(zip(self._names, self._layers, strict=True))
        }

    @property
    def needs_gradient_scale(self) -> bool:
        """Whether `observe` has to be told how the gradient's loss compares with the curvature's."""
        return self._gradient_form.needs_scale

    @property
    def is_done(self) -> bool:
        """Whether the (last) target is reached: nothing is observed or removed any more."""
        return self._is_done

    @property
    def done_share(self) -> float:
        """How much of what is to go is gone, in components or, where the allocation counts those, in parameters."""
        return self._plan.done_share(self._present)

    @property
    def ranks(self) -> dict[str, int]:
        """Layer name → number of components that are there, all layers."""
        return {name: layer.rank for name, layer in zip(self._names, self._layers, strict=True)}

    @property
    def live(self) -> dict[str, Tensor]:
        """Layer name → indices of the components that are there among those of its factors, all layers: with `hold`
        fewer than those."""
        return {
            name: torch.arange(layer.rank) if layer.index is None else layer.index
            for name, layer in zip(self._names, self._layers, strict=True)
        }

    @property
    def rate_factor(self) -> float:
        """What the factors' learning rate is to be multiplied by, at the present ranks of the layers that have any; 1
        when nothing is left."""
        return self._rate_factor

    def enforce(self) -> None:
        """Sets held components to zero; after every step of an optimizer whose momentum or weight decay moves them."""
        for layer in self._layers:
            layer.enforce()

    def shrink(self, optimizer: Optimizer | None) -> None:
        """Really drops what was held; the pruner is closed by it."""
        self.close()
        for layer in self._layers:
            layer.shrink(optimizer)
        self._take_stock()

    def state_dict(self) -> dict[str, Tensor]:
        """Averaged statistics (`average.<statistic>.<layer>`; none in steps that are not observed), the number of steps
        in them, the average `gradient_scale` where it is needed, the last gradients (`gradient.<layer>`) where
        a rung may use them that begins after this step, and where components are held which are live (`live.<layer>`);
        take it between steps."""
        held = {
            f"live.{name}": layer.index
            for name, layer in zip(self._names, self._layers, strict=True)
            if layer.index is not None
        }
        scale = (
            {"gradient_scale": torch.tensor(self._gradient_form.scale, dtype=torch.float64)}
            if self._keeps_scale
            else {}
        )
        gradients = self._gradient_form.state_dict(self._names) if self._keeps_gradients else {}
        return {**self._averages.state_dict(), **scale, **gradients, **held}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state`; layers that shrink must have their ranks of that moment already.

        Raises ValueError when the state's names or shapes do not belong to these layers.
        """
        held = {f"live.{name}" for name in self._names} if self._hold else set()
        if held <= state.keys():
            for name, live in zip(self._names, self._layers, strict=True):
                if self._hold:
                    live.restore(state[f"live.{name}"])
        self._take_stock()
        if self.is_done:
            self.close()
        if any(name.startswith("average.") for name in state):
            self._watch(self._first_observed)
        elif self._first_observed > 1:
            self._averages.close()  # the state is of a step before, as that of a branch that was observed and is left
        self._is_discarded = False
        scale = {"gradient_scale"} if self._keeps_scale else set()
        gradients = {f"gradient.{name}" for name in self._names} if self._keeps_gradients else set()
        if not gradients & state.keys():  # none is kept before the first observation and right after a removal
            gradients = set()
        expected = self._averages.state_dict().keys() | held | scale | gradients
        if state.keys() != expected:
            wrong = sorted(state.keys() ^ expected)
            raise ValueError(f"pruner state does not fit the adapter; missing or unexpected: {', '.join(wrong)}")
        self._averages.load_state_dict(state)
        if self._keeps_scale:
            self._gradient_form.scale = float(state["gradient_scale"])
        self._gradient_form.forget()
        if gradients:
            devices = [layer.layer.B.device for layer in self._layers]
            self._gradient_form.load_state_dict(state, self._names, devices)

    def close(self) -> None:
        """Removes hooks and averages; the pruner does nothing from then on."""
        self._averages.close()
        self._is_open = False
        self._gradient_form.forget()

    @property
    def _keeps_scale(self) -> bool:
        return self._averages.is_watching and self.needs_gradient_scale

    @property
    def _keeps_gradients(self) -> bool:
        """Whether the removal of a rung may look at gradients of a step before, from which a training is resumed."""
        return self.settings.gradient_cap is not None and self._averages.is_watching and self._plan.removes_at_once

    def _watch(self, step: int) -> None:
        """Before step number `step`: begins where it is the first that is observed, and ends where the next that is
        comes later: a rung's removal is complete."""
        is_due = step >= self._first_observed
        if not self._is_open or self._averages.is_watching == is_due:
            return
        if is_due:
            self._averages.begin()
            self._gradient_form.scale = 0.0
        else:
            self._averages.close()
            self._gradient_form.forget()

    def _take_stock(self) -> None:
        """After a change of ranks: what follows from them, and is asked for at every step."""
        self._present = [layer.rank for layer in self._layers]
        self._is_done = self._plan.is_done(self._present)
        self._first_observed = 1 if self._from_start else self._plan.first_observed(self._present)
        self._rate_factor = float(self._plan.growth(self._present) ** self.settings.rate_growth)

    def _started(self) -> bool:
        """Whether any B has left zero."""
        device = self._layers[0].layer.B.device
        return bool(torch.stack([layer.layer.B.detach().any().to(device) for layer in self._layers]).any())

    def _remove(self, demand: Demand, optimizer: Optimizer | None, seed: int) -> dict[str, list[int]]:
        """Layer name → indices that went."""
        device = self._layers[0].layer.B.device
        widths = torch.tensor([layer.width for layer in self._layers], device=device)
        counts = partial(_counts, self._allocation, widths, demand)
        before = [layer.rank for layer in self._layers]
        if self.settings.basis == "raw":
            components = demand.num if demand.unit == "components" else math.ceil(demand.num / int(widths.min()))
            if demand.most_rank is not None:
                components = max(components, max(before) - demand.most_rank)
            kept = self._choose(counts, components, seed)
        else:
            kept = self._truncate(counts, optimizer)
        removed = {}
        for index, keep in kept.items():
            lost = torch.ones(before[index], dtype=torch.bool)
            lost[keep] = False
            removed[self._names[index]] = torch.nonzero(lost).flatten().tolist()
            self._layers[index].remove(keep, optimizer)
            self._averages.keep(index, keep)
        self._averages.resize()
        self._take_stock()
        return removed

    def _choose(self, counts: Counts, components: int, seed: int) -> dict[int, Tensor]:
        """Of the components as they stand: index of a layer → what it keeps, compensated. `components`: most to go."""
        settings, block = self.settings, self.settings.block
        assert self._criterion is not None
        assert settings.recovery_strength is not None
        highest = max(layer.rank for layer in self._layers)
        most = min(math.ceil(components / block) * block, highest - settings.min_rank)
        return remove(
            self._layers,
            self._criterion,
            self._known(most, seed),
            counts,
            most,
            recovery_strength=settings.recovery_strength,
            gradients=self._gradient_form.gradients(self._averages.num_observed),
            gradient_cap=settings.gradient_cap,
        )

    def _truncate(self, counts: Counts, optimizer: Optimizer | None) -> dict[int, Tensor]:
        """In the principal basis, which layers and averages are turned to: index of a layer → what it keeps."""
        settings = self.settings
        is_whitened = settings.basis == "whitened"
        averages = self._averages.corrected()
        before = [layer.rank for layer in self._layers]
        changed, num_lost = truncate(
            self._layers,
            (averages[H_MOMENT], averages[U_MOMENT]) if is_whitened else None,
            counts,
            damping=settings.damping,
            optimizer=optimizer,
            # A ladder whose rungs begin with a new optimizer state has no moments to map.
            optimizer_moments=settings.moments or "reset",
        )
        if is_whitened:
            for index, (T, T_inverse) in changed.items():
                self._averages.change_basis(index, T, T_inverse)
        return {index: torch.arange(before[index] - num_lost[index]) for index in changed}

    def _known(self, num: int, seed: int) -> Known:
        assert self._criterion is not None
        averages = self._averages.corrected()
        own = self._criterion.own_curvature
        curvatures: dict[Side, list[Tensor]] = {"B": averages[own]} if own is not None else {}
        for side in self.settings.sides:
            if f"{CURVATURE}{side}" in averages:
                curvatures[side] = averages[f"{CURVATURE}{side}"]
        statistics = {name: averages[name] for name in self._criterion.statistics}
        damping = self.settings.damping
        return gather(self._layers, self._criterion, curvatures, statistics, damping=damping, num=num, seed=seed)


def _counts(allocation: Allocation, widths: Tensor, demand: Demand, cost: Tensor, ranks: Tensor) -> Tensor:
    return allocation.counts(cost, ranks, widths, demand)
