"""Judge: which trials of a sweep are left behind by others, by the looks at them so far. It sits on the board and holds
nothing that cannot be rebuilt from the store; no torch, no files in here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from prunedlora.study.stopping import MARGIN, Verdict, verdict
from prunedlora.study.stopping_looks import Run


class About(TypedDict):
    """What must be known of a trial before it trains; plain data."""

    sizes: list[float]
    """Of its planned candidates (PlannedSize.size); none where sizes are not known."""
    at: list[float]
    """Share of the steps at which it is made."""
    group: str
    """Trials of one group have losses on the same targets."""
    is_judged: bool
    """False for baselines, which others are compared with, but which are never stopped."""


@dataclass(frozen=True)
class _Seen:
    """A look at a trial."""

    loss: float
    stderr: float | None
    outcomes: NDArray[np.float64]
    """(examples,); their mean is the loss."""
    last_removal: float | None


@dataclass(frozen=True)
class _Known:
    about: About
    looks: dict[float, _Seen] = field(default_factory=dict)
    """By share."""
    ended: float | None = None
    """Share at which it was stopped or failed; None: it trains, or is completed."""

    @property
    def reached(self) -> float:
        """Share of its last look; 0: there was none."""
        return max(self.looks, default=0.0)

    def is_peer(self, own: "_Known", num_examples: int) -> bool:
        """Whether another may be compared with it: it has sizes of its own, reached or to come, and has been looked at
        on as many examples."""
        about = self.about
        has_sizes = self.ended is None or any(at <= self.ended for at in about["at"])
        return (
            has_sizes
            and about["group"] == own.about["group"]
            and _are_sizes(about["sizes"])
            and any(len(seen.outcomes) == num_examples for seen in self.looks.values())
        )

    def run(self, num_examples: int) -> Run:
        """As the rule takes it, by its looks on so many examples; of candidates without a finite size, which have none
        on the axis that is compared, nothing is said."""
        planned = [each for each in zip(self.about["sizes"], self.about["at"], strict=True) if math.isfinite(each[0])]
        looks = {share: seen for share, seen in self.looks.items() if len(seen.outcomes) == num_examples}
        found: Run = {
            "sizes": [size for size, _ in planned],
            "at": [at for _, at in planned],
            "figures": {share: seen.loss for share, seen in looks.items()},
            "errors": {share: seen.stderr for share, seen in looks.items() if seen.stderr is not None},
            "removals": sorted({seen.last_removal for seen in looks.values() if seen.last_removal is not None}),
        }
        if num_examples > 1:  # one says nothing about the spread
            found["outcomes"] = {share: seen.outcomes for share, seen in looks.items()}
        return found if self.ended is None else {**found, "ended": self.ended}


class Judge:
    """Told of trials and looks; says who stops. `margin`: None: the rule's own."""

    def __init__(self, margin: float | None = None) -> None:
        self._margin = MARGIN if margin is None else margin
        self._known: dict[str, _Known] = {}

    def begin(self, key: str, about: Mapping[str, Any]) -> None:
        """A trial is to be trained, or goes on. What was seen of it stays."""
        known = self._known.get(key)
        fresh = _Known(cast(About, about))
        self._known[key] = fresh if known is None else replace(fresh, looks=known.looks)

    def look(self, key: str, look: Mapping[str, Any], is_decided: bool) -> dict[str, Any] | None:
        """Takes a StoredLook as plain data. The decision, as a Decision's fields, unless it is decided or the trial is
        not judged: a baseline, of sizes that are not known, or not begun."""
        self.see(key, look)
        return None if is_decided else self.decide(key, look["look"]["share"])

    def see(self, key: str, look: Mapping[str, Any]) -> None:
        """Remembers a look at a trial that has begun."""
        if key in self._known:
            seen, targets = look["look"], np.asarray(look["num_targets"])
            self._known[key].looks[seen["share"]] = _Seen(
                seen["loss"]["value"],
                seen["loss"]["stderr"],
                np.asarray(look["loss_sums"]) / targets.mean(),
                seen["last_removal"],
            )

    def end(self, key: str, status: str) -> None:
        """A trial has ended; of one that was not completed what lay ahead of its last look is never reached."""
        if key in self._known and status != "completed":
            known = self._known[key]
            self._known[key] = replace(known, ended=known.reached)

    def decide(self, key: str, share: float) -> dict[str, Any] | None:
        """The decision at a share at which there is a look, by all that is known now. No larger is who is no larger as
        planned."""
        known = self._known.get(key)
        if known is None or not known.about["is_judged"] or not _are_sizes(known.about["sizes"]):
            return None
        num_examples = len(known.looks[share].outcomes)
        runs = {
            other: each.run(num_examples)
            for other, each in self._known.items()
            if other != key and each.is_peer(known, num_examples)
        }
        runs[key] = known.run(num_examples)
        return decision_of(verdict(runs, key, share, margin=self._margin))


def decision_of(found: Verdict) -> dict[str, Any]:
    """A Decision's fields, plain data."""
    return {
        "stops": found.stops,
        "beaten_by": tuple({"size": size, "by": by} for size, by in sorted(found.beaten_by.items())),
        "spared": found.spared,
        "peers": dict(found.peers),
    }


def _are_sizes(sizes: Sequence[float]) -> bool:
    """Whether sizes are known that can be compared: what may be an adapter of nothing is compared with nothing."""
    return bool(sizes) and all(size > 0 for size in sizes)
