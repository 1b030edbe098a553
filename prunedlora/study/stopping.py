"""Whether a run can still reach the front: one pure function over plain data, alike for the live path and for replays.

A run is stopped for runs that are better, not for being bad: at every size that it has ahead some other run, which has
a size planned or reached that is no larger, must be better by the margin at the same progress. Size at the moment says
nothing (a run that prunes late is large until then), so planned sizes are compared. A front needs several survivors: of
every band of a factor 2 in size the best `quota` go on whatever is said. Figures are losses; accuracies of few examples
order runs less well at a tenth of their steps. A run that has diverged is the one that stops for itself alone.

    >>> runs = {
    ...     "small": {"sizes": [1e4], "figures": {0.1: 0.50, 1.0: 0.20}},
    ...     "large": {"sizes": [9e4], "figures": {0.1: 0.60}},
    ...     "best large": {"sizes": [8e4], "figures": {0.1: 0.40}},
    ...     "next large": {"sizes": [7e4], "figures": {0.1: 0.55}},
    ... }
    >>> found = verdict(runs, "large", 0.1)  # two of its band are better: nothing spares it
    >>> found.stops, found.beaten_by
    (True, {90000.0: 'best large'})
    >>> found = verdict(runs, "next large", 0.1)  # one of its band is better
    >>> found.stops, found.beaten_by, found.spared
    (False, {70000.0: 'small'}, '65536 to 131072')
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prunedlora.study.stopping_looks import ROUNDING, Look, Run, band_of, by_share, look_at

MARGIN: Final = 0.01
"""In units of the figure. On 63 published runs of one model and task, judged by training loss at a tenth of 5,000
steps, it kept the whole hypervolume at 0.39 of the compute; a margin of 0 kept 98.4 % at 0.24."""
NUM_ERRORS: Final = 1.0
"""Standard errors of the difference that a run must be behind besides, where they are known."""
QUOTA: Final = 2
"""Runs of a band that go on whatever is said."""
TOLERANCE: Final = 0.02
"""So far from a share a peer's figures may be to say what it had there; so far apart distances from a removal count as
equal."""
NOT_FINITE: Final = "a figure that is not finite"
"""What beats a run that has diverged."""


@dataclass(frozen=True)
class Verdict:
    """What was found at one look of one run."""

    stops: bool
    beaten_by: Mapping[float, str]
    """Size that it has ahead → the best of those that beat it there; sizes at which none does are left out."""
    spared: str | None
    """The band of sizes, in which it is among the best, for which it goes on although it is beaten everywhere."""
    peers: Mapping[str, float]
    """Figures that it was compared with."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Runs that it was not compared with for what is wrong with them → what that is."""


def verdict(
    runs: Mapping[str, Run],
    run: str,
    share: float,
    *,
    margin: float = MARGIN,
    num_errors: float = NUM_ERRORS,
    quota: int = QUOTA,
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Whether `run` stops at `share` of its steps, by what `runs`, itself among them, have come to at this share.

    It stops if for every size s that it has ahead there is a peer with a size ≤ s, reached or to come, whose figure is
    lower by more than `margin` and by more than `num_errors` standard errors of the difference (paired where both have
    outcomes; of both figures, as far as they are known, otherwise; no condition where neither is), unless fewer than
    `quota` peers are better than it, by any difference, in the band of one of those sizes. Bands are [2^k, 2^(k+1)).

    Peers are the runs, with a size reached or to come, whose figure at this share is known, as far from their last
    removal (within `tolerance`) or without one as it is. A figure at the very share is taken as it stands. Where there
    is none, the line between the peer's figures before and after it tells, both within `tolerance` and without a
    removal between them: on a curve that falls ever more slowly it lies above what the peer had. (The standard error
    is the larger of both, outcomes are on the line example by example.) Where there is only the one before, it stands
    for what came after: the peer had learned less by then. One with only a later figure is no peer. So a difference in
    progress alone stops nobody whose loss is falling.

    Of a peer that has ended count the sizes that it reached. A run with nothing ahead never stops. One whose own figure
    is not finite stops, beaten by NOT_FINITE at every size ahead. Ties beat nobody and take nobody's place, so that the
    order of `runs` is of no matter.

    Other runs that cannot be used, by a figure there that is not finite (it beats nobody, and is no best of a band) or
    by what would be an error of the run's own, are in `unusable`.

    Raises ValueError, which names the run: it is not among `runs`, or has no figure at the share; for what is no such
    mapping, list or number, a size that is not positive, shares outside [0, 1], as many shares as sizes in `at`, a
    standard error or outcome that is not finite, and less than two outcomes; for a negative margin, quota, number or
    tolerance.
    """
    limits = {"margin": margin, "num_errors": num_errors, "quota": quota, "tolerance": tolerance}
    for name, value in limits.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} {value} is not a number from 0 up")
    if run not in runs:
        raise ValueError(f"run {run!r} is not among the runs: {', '.join(map(repr, runs)) or 'there are none'}")
    own = look_at(runs[run], run, share, 0.0)
    if own is None:
        shares = ", ".join(f"{each:g}" for each in sorted(by_share(runs[run]["figures"], run, "figures")))
        raise ValueError(f"run {run!r} has no figure at share {share:g} of its steps, only at: {shares or 'none'}")
    if not math.isfinite(own.figure):
        return Verdict(bool(own.ahead), dict.fromkeys(own.ahead, NOT_FINITE), None, {})
    peers, unusable = _peers(runs, own, share, tolerance)

    better = [peer for peer in peers if _is_better(peer, own, margin, num_errors)]
    beaten_by = {}
    for size in own.ahead:
        by = next((peer.name for peer in better if min(peer.sizes) <= size), None)
        if by is not None:
            beaten_by[size] = by
    is_beaten = bool(own.ahead) and len(beaten_by) == len(set(own.ahead))
    spared = next((_words(band) for band in own.bands if _num_ahead(own, peers, band) < quota), None)
    return Verdict(
        stops=is_beaten and spared is None,
        beaten_by=beaten_by,
        spared=spared if is_beaten else None,
        peers={peer.name: peer.figure for peer in peers},
        unusable=unusable,
    )


def _peers(runs: Mapping[str, Run], own: Look, share: float, tolerance: float) -> tuple[list[Look], dict[str, str]]:
    """Those that are compared, the best first, and why others cannot be."""
    peers, unusable = [], {}
    for name, run in runs.items():
        if name == own.name:
            continue
        try:
            look = look_at(run, name, share, tolerance)
        except ValueError as error:
            unusable[name] = str(error)
            continue
        if look is None or not look.sizes or not _comparable(own, look, tolerance):
            continue
        if not math.isfinite(look.figure):
            unusable[name] = f"run {name!r} has a figure of {look.figure} at share {share:g}: it failed there"
        elif look.outcomes is not None and own.outcomes is not None and len(look.outcomes) != len(own.outcomes):
            unusable[name] = (
                f"run {name!r} has outcomes of {len(look.outcomes)} examples, and {own.name!r} of {len(own.outcomes)}; "
                "to be paired they must be the same ones"
            )
        else:
            peers.append(look)
    peers.sort(key=lambda look: (look.figure, look.name))
    return peers, unusable


def _comparable(one: Look, other: Look, tolerance: float) -> bool:
    if one.since_removal is None or other.since_removal is None:
        return one.since_removal is other.since_removal
    return abs(one.since_removal - other.since_removal) <= tolerance + ROUNDING


def _is_better(peer: Look, own: Look, margin: float, num_errors: float) -> bool:
    apart = own.figure - peer.figure
    return apart > margin and apart > num_errors * _error_of_difference(peer, own)


def _error_of_difference(peer: Look, own: Look) -> float:
    """0 where nothing is known of it."""
    if peer.outcomes is not None and own.outcomes is not None:
        return float((own.outcomes - peer.outcomes).std(ddof=1)) / math.sqrt(len(own.outcomes))
    return math.hypot(peer.error or 0.0, own.error or 0.0)


def _num_ahead(own: Look, peers: Sequence[Look], band: int) -> int:
    """Peers with a size in the band that are better."""
    return sum(peer.figure < own.figure and any(band_of(size) == band for size in peer.sizes) for peer in peers)


def _words(band: int) -> str:
    return f"{2.0**band:.12g} to {2.0 ** (band + 1):.12g}"
