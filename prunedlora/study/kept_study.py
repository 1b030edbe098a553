"""One study for as long as a driver lives, since building it anew for every ask takes longer than asking, from some
hundred trials on.

It proposes what a study rebuilt from the store would: it holds what was asked and told in the order of the asks, and
the sampler is made anew for every ask, with a seed of that ask alone. So a driver that was killed and one that never
was propose the same.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from prunedlora.config.space import SpaceEntry
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PlannedSize, Planner
from prunedlora.registry import lookup
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.study.aiming import best_aimed, front_of
from prunedlora.study.asked import GIVEN
from prunedlora.study.fresh_study import fresh_study
from prunedlora.study.given_asks import next_given
from prunedlora.study.given_sampler import GivenSampler
from prunedlora.study.quasi_random import quasi_random
from prunedlora.study.rebuild import Direction, ask_seed, earlier_trial, quiet
from prunedlora.study.samplers import NUM_STARTUP_RUNS
from prunedlora.study.size_limits import planned_sizes, space_sizes, too_large
from prunedlora.study.suggest import as_params, suggest
from prunedlora.study.telling import AREA, Teller, Telling, size_axis
from prunedlora.study.told_trials import ToldTrials

Startup = Literal["random", "quasi_random"]
MOST_DRAWN = 16
"""Suggestions of one ask, at most, until one can keep the limits."""
MOST_SAMPLED = 4
"""So many of them are the sampler's: one that insists on what is too large is not asked on, and settings are drawn
evenly from the space."""
NO_LIMITS: Mapping[str, float] = MappingProxyType({})
Suggestion = tuple[dict[str, Any], dict[str, Any]]
"""(Field path → value, what an Ask must hold of it: params, distributions, system_attrs.)"""


class EarlierTrial(Protocol):
    """A trial of an earlier sweep."""

    @property
    def params(self) -> Mapping[str, Any]:
        """As an Ask has them, of this sweep's space."""

    @property
    def values(self) -> Sequence[float]:
        """One per objective, on this sweep's scale."""


class KeptStudy:
    """A study that grows; for one thread at a time."""

    def __init__(
        self,
        space: Mapping[str, SpaceEntry],
        objectives: Mapping[str, Direction],
        sampler: str,
        seed: int,
        *,
        telling: Telling = "last",
        startup: Startup = "random",
        trial: TrialConfig | None = None,
        planner: Planner | None = None,
        constraints: Mapping[str, float] = NO_LIMITS,
        warm: Sequence[EarlierTrial] = (),
        given: Sequence[Mapping[str, Any]] = (),
        num_aimed: int = 1,
        serve_on: Sequence[str] = (),
    ) -> None:
        """`telling`: how it is told of runs (telling.py). `startup`: how settings are drawn until the sampler has
        something to learn from. `trial`: the sweep's base, `planner`: sizes of its candidates, where they are known;
        both or none. `constraints`: axis of size → the most that is of use. `given`: field path → value, of what is to
        be asked for first, one after another. `num_aimed`: of so many suggestions the one is taken whose sizes lie
        where the front has most to gain (aiming.py); it takes a planner. `serve_on`: servers that sizes are for
        (served_size.py); the planner's too.

        Raises ValueError for telling `area` without sizes, or beside trials of earlier sweeps.
        """
        if (trial is None) != (planner is None):
            raise ValueError("planned sizes are those of changes to a trial: give trial and planner, or neither")
        if num_aimed > 1 and planner is None:
            raise ValueError(f"num_aimed {num_aimed} needs sizes that are known before training: give a planner")
        self.warm = warm
        """Trials of earlier sweeps, before all asks; they may be others at any ask."""
        self._space = space
        self._sampler = sampler
        self._seed = seed
        self._startup = startup
        self._trial = trial
        self._planner = planner
        self._limits = constraints
        self._given = [as_params(each, space) for each in given]
        self._num_aimed = num_aimed
        self._axis = size_axis(objectives)
        sizes = None
        if telling == AREA:
            if trial is None or planner is None:
                raise ValueError("telling 'area' needs sizes that are known before training: take 'candidates'")
            sizes = space_sizes(planner, trial, space, self._axis)
        self._teller = Teller(objectives, telling, constraints, sizes, serve_on)
        self._told = ToldTrials(self._teller)

    def propose(self, asks: Sequence[Ask], told: Mapping[int, TrialRecord], *, num_concurrent: int) -> Suggestion:
        """The next ask.

        `asks`: all so far, in order; `told`: number of an ask → its record, as far as the study may know. What changed
        of that since it was asked last is told anew.
        """
        if self.warm and self._teller.telling == AREA:
            raise ValueError("telling 'area' has one objective, trials of earlier sweeps have two: take 'candidates'")
        searched = [ask for ask in asks if ask.kind == "search"]
        most = 1 if self._planner is None else max(self._num_aimed, MOST_DRAWN if self._limits else 1)
        with quiet():
            self._told.follow(searched, told)
            return self._best(self._draw(searched, num_concurrent, again) for again in range(most))

    def is_given(self, asks: Sequence[Ask]) -> bool:
        """Whether the next ask is for what the file gives."""
        return next_given(self._given, (ask for ask in asks if ask.kind == "search")) is not None

    def planned(self, values: Mapping[str, Any]) -> Sequence[PlannedSize]:
        """The candidates of a suggestion; none where nothing is known of them."""
        if self._planner is None or self._trial is None:
            return ()
        return planned_sizes(self._planner, self._trial, values)

    def too_large(self, values: Mapping[str, Any]) -> str | None:
        """Why no candidate of a suggestion can keep the limits; None where one can, or sizes are not known."""
        return too_large(self.planned(values), self._limits) if self._limits else None

    def _best(self, suggestions: Iterable[Suggestion]) -> Suggestion:
        """The best aimed of the first `num_aimed` that can keep the limits; the first of all where none can. Of what
        the file gives the first that can: what it leaves open is drawn until then."""
        kept: list[Suggestion] = []
        first: Suggestion | None = None
        for each in suggestions:
            first = first or each
            if self.too_large(each[0]) is not None:
                continue
            if GIVEN in each[1]["system_attrs"]:
                return each
            kept.append(each)
            if len(kept) == self._num_aimed:
                break
        assert first is not None
        if len(kept) < 2:
            return kept[0] if kept else first
        sizes = [[sum(one.bounds[self._axis]) / 2 for one in self.planned(values)] for values, _ in kept]
        return kept[best_aimed(sizes, front_of(self._told.reached()))]

    def _draw(self, searched: Sequence[Ask], num_concurrent: int, again: int) -> Suggestion:
        sampler = lookup("sampler", self._sampler)(
            seed=ask_seed(self._seed, len(searched), again), num_concurrent=num_concurrent
        )
        first, attrs = self._first(searched, again)
        study = fresh_study(self._trials(), self._teller.directions, GivenSampler(first, sampler) if first else sampler)
        trial = study.ask()
        values = suggest(trial, self._space)
        # Not this trial is what the study keeps, but the ask once it is written.
        proposed = study.tell(trial, state=TrialState.FAIL)
        return values, {
            "params": dict(proposed.params),
            "distributions": {name: distribution_to_json(d) for name, d in proposed.distributions.items()},
            "system_attrs": json.loads(json.dumps(proposed.system_attrs, allow_nan=False)) | attrs,
        }

    def _first(self, searched: Sequence[Ask], again: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters that the next ask takes whatever the sampler says, and the note that says so."""
        params: dict[str, Any] = {}
        fewest = NUM_STARTUP_RUNS.get(self._sampler, 0)
        is_startup = self._startup == "quasi_random" and self._told.num_learnt < fewest and not self.warm
        if is_startup or again >= max(MOST_SAMPLED, self._num_aimed):
            params = quasi_random(self._space, ask_seed(self._seed, 0, again), len(searched))
        given = next_given(self._given, searched)
        return (params, {}) if given is None else (params | given, {GIVEN: given})

    def _trials(self) -> Iterator[FrozenTrial]:
        for warm in self.warm:
            yield earlier_trial(warm.params, warm.values, self._space)
        yield from self._told


def propose(
    asks: Sequence[Ask],
    told: Mapping[int, TrialRecord],
    *,
    space: Mapping[str, SpaceEntry],
    objectives: Mapping[str, Direction],
    sampler: str,
    seed: int,
    num_concurrent: int,
    **settings: Any,
) -> Suggestion:
    """As `KeptStudy.propose`, by a study rebuilt for this ask alone; `settings`: the others of KeptStudy."""
    return KeptStudy(space, objectives, sampler, seed, **settings).propose(asks, told, num_concurrent=num_concurrent)
