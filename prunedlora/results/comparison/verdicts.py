"""What an interval says of a difference, and what several of them say together: in a word, and in a sentence."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from typing import Generic, Literal, Protocol, TypeVar

from prunedlora.results.figure_text import percent
from prunedlora.results.record import Figure

Verdict = Literal["better", "worse", "equal", "unknown"]
Overall = Literal["better", "worse", "equal", "unknown", "mixed"]
ROUNDING = 1e-9
"""Differences below it are those of sums in floating point, in units of the quality."""
MOST_RUNS = 4
"""Ranges of sizes that a sentence names; of more it counts the sizes."""


class Side(Protocol):
    """What is judged: an adapter, or settings with their mean over seeds."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> float: ...

    @property
    def quality(self) -> Figure: ...


S = TypeVar("S", bound=Side, covariant=True)


@dataclass(frozen=True)
class Matched(Generic[S]):
    """The best of two groups up to one size. Differences are in units of the quality, above 0 where the group is better
    than the control; bounds are for the truly best of the two, which may be others."""

    size: float
    group: S
    control: S
    group_choices: int
    """How many are no larger than `size`, of which the best was picked."""
    control_choices: int
    difference: float
    low: float
    high: float
    """Infinite where no probability is given."""
    paired: bool
    """Whether both were scored on the same examples, and every outcome is on record."""
    verdict: Verdict
    """better: the group is surely better than all of the control's; worse: the reverse; equal: the truly best of both
    are surely no more than the margin apart; unknown: nothing of these is sure."""


@dataclass(frozen=True)
class Terms:
    """Of what two groups are judged, and by which measure."""

    name: str
    control: str
    size: str
    within: float
    confidence: float

    def said(self, one: Matched[Side]) -> str:
        """What is said of one size, in a few words."""
        return "measured" if isinf(one.low) else self.told(one.verdict)

    def told(self, verdict: Verdict) -> str:
        return {
            "better": f"{self.name} is better",
            "worse": f"{self.control} is better",
            "equal": f"equal within {self.within:g}",
            "unknown": "no difference can be told",
        }[verdict]


def verdict_of(low: float, high: float, within: float) -> Verdict:
    """better: surely above 0; worse: surely below; equal: surely no more than the margin from it."""
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equal" if -within <= low and high <= within else "unknown"


def overall(verdicts: Sequence[Verdict]) -> Overall:
    """The one of all sizes where it is the same at each: a group that is better at some only is not called better."""
    return verdicts[0] if len(set(verdicts)) == 1 else "mixed"


def sentences(terms: Terms, at: Sequence[Matched[Side]]) -> list[str]:
    """First the verdict on all sizes, then where each holds, where they are several, and what was measured."""
    name, control = terms.name, terms.control
    sure = f"with {percent(terms.confidence)} confidence"
    found = overall([one.verdict for one in at])
    headline = {
        "better": f"{name} is better than {control} {sure}",
        "worse": f"{name} is worse than {control} {sure}",
        "equal": f"{name} and {control} are at most {terms.within:g} apart {sure}",
        "unknown": f"no difference between {name} and {control} can be told {sure}",
        "mixed": f"no one verdict on {name} and {control} holds",
    }[found]
    lines = [f"{headline}, {_where(terms.size, at)}."]
    if found == "mixed":
        lines.append(f"{sure.capitalize()}: {_by_size(terms, at)}.")
    return [*lines, _measured(at)]


def interval(one: Matched[Side]) -> str:
    """The difference, with its bounds where it has some."""
    bounds = "" if isinf(one.low) else f" [{signed(one.low)}, {signed(one.high)}]"
    return f"{signed(one.difference)}{bounds}"


def signed(value: float) -> str:
    """With its sign and three digits behind the point, or as many as tell it from 0."""
    return f"{value:+z.{_digits(value)}f}"


def _digits(value: float) -> int:
    return 3 if _is_none(value) else max(3, -math.floor(math.log10(abs(value))))


def _is_none(difference: float) -> bool:
    """Whether it is rounding of the sums alone."""
    return abs(difference) < ROUNDING


def _where(size: str, at: Sequence[Matched[Side]]) -> str:
    if len(at) == 1:
        return f"up to {size} {at[0].size:,.10g}"
    return f"up to every {size} from {at[0].size:,.10g} to {at[-1].size:,.10g}"


def _by_size(terms: Terms, at: Sequence[Matched[Side]]) -> str:
    runs = [(verdict, list(ones)) for verdict, ones in itertools.groupby(at, key=lambda one: one.verdict)]
    if len(runs) <= MOST_RUNS:
        return "; ".join(f"{_range(ones)} {terms.told(verdict)}" for verdict, ones in runs)
    found = dict.fromkeys(one.verdict for one in at)
    counts = {verdict: sum(one.verdict == verdict for one in at) for verdict in found}
    return "; ".join(f"at {count} of {len(at)} sizes {terms.told(verdict)}" for verdict, count in counts.items())


def _range(ones: Sequence[Matched[Side]]) -> str:
    first, last = ones[0].size, ones[-1].size
    return f"at {first:,.10g}" if first == last else f"from {first:,.10g} to {last:,.10g}"


def _measured(at: Sequence[Matched[Side]]) -> str:
    if len(at) == 1:
        (one,) = at
        word = "better" if one.difference > 0 else "worse"
        return "Measured the same." if _is_none(one.difference) else f"Measured {signed(one.difference)[1:]} {word}."
    apart = [one.difference for one in at if not _is_none(one.difference)]
    ahead, behind = sum(difference > 0 for difference in apart), sum(difference < 0 for difference in apart)
    return f"Measured, it is ahead at {ahead} of these {len(at)} sizes and behind at {behind}."
