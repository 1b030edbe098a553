"""What has been asked so far, counted as it grows: how many trials that made, and what is left to ask for.

What counts as one of `num_trials` is a search ask that is a trial of its own. One whose configuration had been asked or
recorded before (a repeat), that is no trial at all, or none of whose candidates can keep the limits on sizes, counts as
none: another is asked for in its place. The search ends early when nothing new is left of a finite space that can keep
the limits, or after MOST_IN_VAIN such asks in a row.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prunedlora.config.space import SpaceEntry
from prunedlora.results.ask import TOO_LARGE as TOO_LARGE
from prunedlora.results.ask import Ask
from prunedlora.study.listed_configurations import canonical_params, list_configurations

MOST_IN_VAIN = 20
REPEATED = "prunedlora:repeated"
"""System attribute of an ask whose configuration had been asked or recorded before: nothing is run."""
INVALID = "prunedlora:invalid"
"""System attribute of an ask that is no trial, which none that was checked before showed: nothing is run, and the study
is told that its settings are bad."""
GIVEN = "prunedlora:given"
"""System attribute of an ask for what the sweep's file says is good: the parameters that the file gives."""


class Asked:
    """All asks in the order of their numbers. One thread at a time may add to it."""

    def __init__(self, asks: Iterable[Ask], space: Mapping[str, SpaceEntry], num_trials: int) -> None:
        self.asks: list[Ask] = []
        self.ran: list[str] = []
        """Keys of the asks that are trials of their own and that the search may learn of, in order."""
        self.num_repeats = 0
        """Search asks that were repeats."""
        self._keys: set[str] = set()
        self._searched: set[str] = set()
        self._num_trials = num_trials
        self._num_new = 0
        self._num_in_vain = 0
        self._num_too_large = 0
        self.num_left_out = 0
        """Configurations of a listed space that were not tried, since they cannot keep the limits on sizes."""
        listed = list_configurations(space) if num_trials else None
        self.num_configurations = None if listed is None else len(listed)
        """Of the space; None when they are not finitely many, or too many to list."""
        self._untried = None if listed is None else {canonical_params(params): params for params in listed}
        for ask in asks:
            self.append(ask)

    def append(self, ask: Ask) -> None:
        """Counts one more ask."""
        in_vain = not is_trial(ask)
        self.asks.append(ask)
        self._keys.add(ask.key)
        if not in_vain and ask.kind != "confirm":
            self.ran.append(ask.key)
        if ask.kind == "search":
            self._searched.add(ask.key)
            self.num_repeats += REPEATED in ask.system_attrs
            self._num_new += not in_vain
            self._num_in_vain = self._num_in_vain + 1 if in_vain else 0
            self._num_too_large = self._num_too_large + 1 if TOO_LARGE in ask.system_attrs else 0
            if self._untried is not None:
                self._untried.pop(canonical_params(ask.params), None)

    def leave_out(self, is_too_large: Callable[[Mapping[str, Any]], bool]) -> None:
        """Untried configurations of a listed space of which this holds for their parameters are never asked for,
        unless the file gives them; nothing of a space that is not listed."""
        if self._untried is not None:
            fitting = {each: params for each, params in self._untried.items() if not is_too_large(params)}
            self.num_left_out += len(self._untried) - len(fitting)
            self._untried = fitting

    def __contains__(self, key: str) -> bool:
        """Whether a trial of this key was asked for."""
        return key in self._keys

    @property
    def next_number(self) -> int:
        return self.asks[-1].number + 1 if self.asks else 0

    @property
    def exhausted(self) -> bool:
        """Whether the search ends before `num_trials`, since there is nothing new left to try."""
        if self._num_new >= self._num_trials:
            return False
        if self.ends_too_large:
            return True
        return self._untried == {} if self._untried is not None else self._num_in_vain >= MOST_IN_VAIN

    @property
    def ends_too_large(self) -> bool:
        """Whether the last MOST_IN_VAIN search asks could not keep the sweep's limits on sizes: then no more are made
        of a space that is not listed."""
        return self._untried is None and self._num_too_large >= MOST_IN_VAIN

    @property
    def num_left(self) -> int:
        """Trials that the search has still to ask for, at most."""
        if self.exhausted:
            return 0
        left = max(0, self._num_trials - self._num_new)
        return left if self._untried is None else min(left, len(self._untried))

    def other_than(self, key: str, params: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        """Parameters of an untried configuration, to be asked for instead of one that was searched before or is left
        out.

        One that differs in as few fields as can be, drawn from those by `seed`. None when the configuration
        is untried and its key was not searched before (of a baseline the study has yet to learn), or the space is not
        listed.
        """
        if not self._untried or (key not in self._searched and canonical_params(params) in self._untried):
            return None
        distances = {each: _distance(params, other) for each, other in self._untried.items()}
        nearest = min(distances.values())
        close = [each for each, distance in distances.items() if distance == nearest]
        return self._untried[random.Random(seed).choice(close)]


def is_trial(ask: Ask) -> bool:
    """Whether an ask is a trial of its own."""
    return not ask.system_attrs.keys() & {REPEATED, INVALID, TOO_LARGE}


def too_large_problem(asked: Asked, constraints: Mapping[str, float]) -> str:
    """What is to be said of a search that came to its end so (`Asked.ends_too_large`)."""
    last = next(ask for ask in reversed(asked.asks) if ask.kind == "search")
    settings = ", ".join(f"{name}={value}" for name, value in last.params.items())
    limits = ", ".join(f"{axis} {most:,g}" for axis, most in constraints.items())
    return (
        f"{MOST_IN_VAIN} suggestions in a row have no candidate within the constraints ({limits}), so that the search "
        f"ended: of the last, {settings}, {last.system_attrs[TOO_LARGE]}; let the space have smaller adapters, or "
        "raise the limits, in another --storage"
    )


def _distance(some: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(some.get(path) != other.get(path) for path in some.keys() | other.keys())
