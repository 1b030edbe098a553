"""One study for as long as a driver lives: asks are added to it and trials end in it, since building it anew for every
ask takes longer than asking, from some hundred trials on.

It proposes what a study rebuilt from the store would: it holds asks only as they are written, and the sampler is made
anew for every ask, with a seed of that ask alone. So a driver that was killed and one that never was propose the same.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import TrialState

from prunedlora.config.space import SpaceEntry
from prunedlora.registry import lookup
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.study.rebuild import Direction, ask_seed, frozen, outcome, quiet, warm_frozen
from prunedlora.study.suggest import suggest
from prunedlora.study.warm_start import WarmTrial


class KeptStudy:
    """A study that grows; for one thread at a time."""

    def __init__(
        self,
        space: Mapping[str, SpaceEntry],
        objectives: Mapping[str, Direction],
        sampler: str,
        seed: int,
        *,
        warm: Sequence[WarmTrial] = (),
    ) -> None:
        """`warm`: trials of earlier sweeps, which come before all asks."""
        self._space = space
        self._objectives = objectives
        self._sampler = sampler
        self._seed = seed
        self._warm = warm
        self._begin()

    def propose(
        self, asks: Sequence[Ask], told: Mapping[int, TrialRecord], *, num_concurrent: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next ask: (field path → value, what an Ask must hold of it: params, distributions, system_attrs).

        `asks`: all so far, in order; `told`: number of an ask → its record, as far as the study may know. Where that is
        no continuation of what it was told before, the study begins anew.
        """
        searched = [ask for ask in asks if ask.kind == "search"]
        self._study.sampler = lookup("sampler", self._sampler)(
            seed=ask_seed(self._seed, len(searched)), num_concurrent=num_concurrent
        )
        with quiet():
            self._follow(searched, told)
            trial = self._study.ask()
            values = suggest(trial, self._space)
            # Not this trial is what the study keeps, but the ask once it is written: no sampler looks at a FAIL.
            proposed = self._study.tell(trial, state=TrialState.FAIL)
        self._num_trials += 1
        return values, {
            "params": dict(proposed.params),
            "distributions": {name: distribution_to_json(d) for name, d in proposed.distributions.items()},
            "system_attrs": json.loads(json.dumps(proposed.system_attrs, allow_nan=False)),
        }

    def _begin(self) -> None:
        with quiet():
            self._study = optuna.create_study(
                storage=optuna.storages.InMemoryStorage(),
                directions=[*self._objectives.values()],
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
            self._study.add_trials([warm_frozen(trial, self._space) for trial in self._warm])
        self._num_trials = len(self._warm)
        self._numbers: dict[int, int] = {}  # of asks → of trials in the study
        self._told: dict[int, TrialRecord] = {}

    def _follow(self, asks: Sequence[Ask], told: Mapping[int, TrialRecord]) -> None:
        known = [ask.number for ask in asks[: len(self._numbers)]]
        if known != list(self._numbers) or any(told.get(number) is not each for number, each in self._told.items()):
            sampler = self._study.sampler
            self._begin()
            self._study.sampler = sampler
        objectives = list(self._objectives)
        for ask in asks[: len(self._numbers)]:
            record = told.get(ask.number)
            if record is not None and ask.number not in self._told:
                state, values = outcome(record, objectives)
                self._study.tell(self._numbers[ask.number], values, state)
                self._told[ask.number] = record
        for ask in asks[len(self._numbers) :]:
            record = told.get(ask.number)
            self._study.add_trial(frozen(ask, record, objectives))
            self._numbers[ask.number] = self._num_trials
            self._num_trials += 1
            if record is not None:
                self._told[ask.number] = record


def propose(
    asks: Sequence[Ask],
    told: Mapping[int, TrialRecord],
    *,
    space: Mapping[str, SpaceEntry],
    objectives: Mapping[str, Direction],
    sampler: str,
    seed: int,
    num_concurrent: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `KeptStudy.propose`, by a study rebuilt for this ask alone."""
    return KeptStudy(space, objectives, sampler, seed).propose(asks, told, num_concurrent=num_concurrent)
