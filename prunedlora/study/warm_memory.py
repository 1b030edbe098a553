"""WarmMemory: what the search remembers of earlier sweeps at each ask, from what it took of them and from what this
sweep's own trials came to (warm_start.py says how)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import TrialState

from prunedlora.config.space import SpaceEntry
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.warm_start_document import WarmStart, dropped_sources
from prunedlora.study.listed_configurations import canonical_params
from prunedlora.study.rebuild import Direction, outcome
from prunedlora.study.warm_start import (
    FEWEST_JUDGED,
    MOST_JUDGED,
    Compared,
    Prediction,
    WarmTrial,
    carried,
    compare,
    is_control,
    num_worth,
    spread,
    stage,
)

Came = tuple[Mapping[str, Any], Sequence[float]]
"""Parameters of a trial of this sweep, and its values."""


class WarmMemory:
    """For one search. What it says follows from asks and records alone, so that a resumed sweep says it again."""

    def __init__(
        self,
        memory: WarmStart,
        space: Mapping[str, SpaceEntry],
        objectives: Mapping[str, Direction],
        serve_on: Sequence[str] = (),
    ) -> None:
        """`serve_on`: servers that sizes are for (served_size.py)."""
        self._objectives, self._serve_on = objectives, serve_on
        self._first = memory.first
        self._trials = {
            source.uri: [
                WarmTrial(each.source, each.params, each.values)
                for each in memory.settings
                if each.source == source.uri
            ]
            for source in memory.sources
        }
        self._predictions = {uri: Prediction(trials, space) for uri, trials in self._trials.items()}
        self._seen: tuple[list[Came], list[str]] | None = None
        self._said: tuple[tuple[WarmTrial, ...], dict[str, str]] = ((), {})

    def first(self, asks: Iterable[Ask]) -> dict[str, Any] | None:
        """Parameters of the next of the best settings that has not been asked for yet; None when all have been."""
        if self._first:
            asked = {canonical_params(ask.params) for ask in asks if ask.kind == "search"}
            self._first = tuple(params for params in self._first if canonical_params(params) not in asked)
        return dict(self._first[0]) if self._first else None

    def at(self, asks: Sequence[Ask], told: Mapping[int, TrialRecord]) -> tuple[tuple[WarmTrial, ...], dict[str, str]]:
        """What the study is told before the next ask, and the sources that are dropped now: URI → why.

        `asks`: all so far, in order; `told`: number of an ask → its record, as far as the study may know.
        """
        came = self._came(asks, told)
        gone = dropped_sources(asks)
        seen = (came[: stage(len(came))], [uri for uri in self._trials if uri not in gone])
        if seen != self._seen:  # which is now and then: it takes longer than asking
            self._seen, self._said = seen, self._look(*seen)
        warm, dropped = self._said
        return () if is_control(sum(ask.kind == "search" for ask in asks), len(came)) else warm, dropped

    def _look(self, came: Sequence[Came], kept: Sequence[str]) -> tuple[tuple[WarmTrial, ...], dict[str, str]]:
        predicted = {uri: [self._predictions[uri].of(params) for params, _ in came] for uri in kept}
        dropped = {}
        for uri in kept if len(came) >= FEWEST_JUDGED else ():
            compared = compare(predicted[uri], [values for _, values in came], self._objectives)
            if not compared.holds:
                dropped[uri] = _reason(compared, len(came))
        left = [uri for uri in kept if uri not in dropped]
        most = -(-num_worth(len(came)) // max(1, len(left)))
        warm = [each for uri in left for each in _carried(self._trials[uri], most, predicted[uri], came)]
        return tuple(warm), dropped

    def _came(self, asks: Sequence[Ask], told: Mapping[int, TrialRecord]) -> list[Came]:
        found: list[Came] = []
        for ask in asks:
            if len(found) == MOST_JUDGED:
                break
            record = told.get(ask.number)
            if ask.kind == "search" and record is not None:
                state, values = outcome(record, list(self._objectives), self._serve_on)
                if state is TrialState.COMPLETE and values is not None:
                    found.append((ask.params, values))
        return found


def _carried(
    trials: Sequence[WarmTrial], most: int, predicted: Sequence[Sequence[float]], came: Sequence[Came]
) -> list[WarmTrial]:
    """At most so many of a source's trials, from the best to the worst, on this sweep's scale."""
    columns = [
        ([values[i] for values in predicted], [values[i] for _, values in came]) for i in range(len(trials[0].values))
    ]
    return [
        WarmTrial(
            trial.source,
            trial.params,
            [carried(value, *column) for value, column in zip(trial.values, columns, strict=True)],
        )
        for trial in (trials[i] for i in spread(len(trials), most))
    ]


def _reason(compared: Compared, num_told: int) -> str:
    return (
        f"of {compared.num_right + compared.num_wrong} of its comparisons between {num_told} trials "
        f"{compared.num_wrong} came out the other way"
    )
