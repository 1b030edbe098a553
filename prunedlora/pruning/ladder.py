"""The ladder: a falling row of sizes that one training passes, and the steps on which it does. No torch here.

A **trunk** is trained first; then at each **rung** components go, what is left is trained on (settle), and a candidate
is made. An adapter that exists may be the trunk as it is: the first rung then begins with the training. Steps count as
optimizer steps done, over the whole training.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

SizeUnit = Literal["parameters", "mean_rank", "kept"]
"""What a ladder's sizes are: numbers in A and B; components per layer, on average; shares of what there is at the
start."""
Rate = Literal["restart", "continue", "branch"]


@dataclass(frozen=True)
class Ladder:
    """How a training passes a row of sizes. None is off: what has no effect beside the others has no value."""

    unit: SizeUnit
    sizes: tuple[float, ...]
    """Falling, one for each rung after the trunk."""
    trunk: float
    """Share of the steps before the first removal, in [0, 1); 0: the trunk is there already and has no steps."""
    shares: tuple[float, ...] | None
    """Of the steps after the trunk, for each rung; None: equal ones."""
    removal: str
    """The schedule of a rung's removal: "one_shot" removes at the rung's begin, others in events."""
    removal_end: float | None
    """Share of a rung's steps, a branch not counted, by which its removal is done; None with "one_shot"."""
    every_steps: int | None
    """Removals in events fall on multiples of this; None with "one_shot"."""
    rate: Rate
    """The learning rate: warm-up and decay anew for trunk and rungs; one for the whole training; or constant, with a
    branch at each rung's end that decays, is the candidate, and is thrown away."""
    rung_rate: float | None
    """Peak rate at the rungs as a share of the trunk's, what grows with the removals not counted ("restart")."""
    warmup: float | None
    """Share of a rung's steps in which its rate rises ("restart"); the trunk has the optimizer's own."""
    branch: float | None
    """Share of the steps of trunk and rungs that are their branches' ("branch")."""
    optimizer_state: Literal["kept", "new"]
    """The optimizer's moments at the begin of a rung."""


@dataclass(frozen=True)
class Rung:
    """Where on the training a rung lies, in steps done over the whole training, branches counted."""

    number: int
    """0 is the trunk."""
    begin: int
    """Its removal begins when these are done; the candidate before it has been made."""
    removed: int
    """Its removal is done with these: `begin`, where it is all at once."""
    branch: int
    """Its branch leaves the line when these are done; `end` where there is none."""
    end: int
    """Its candidate is made when these are done."""

    @property
    def branch_steps(self) -> int:
        return self.end - self.branch


def rungs_of(ladder: Ladder, num_steps: int) -> tuple[Rung, ...]:
    """Trunk and rungs of a training of `num_steps`, in order; the last ends with it. A trunk of share 0 ends before the
    first step and has no branch.

    Raises ValueError for a training too short for its rungs, naming the first that has no steps.
    """
    shares = ladder.shares or (1.0,) * len(ladder.sizes)
    total = math.fsum(shares)
    passed = [ladder.trunk + (1 - ladder.trunk) * share / total for share in accumulate(shares)]
    ends = [_nearest(share * num_steps) for share in (ladder.trunk, *passed[:-1])] + [num_steps]
    rungs, begin = [], 0
    if ladder.trunk == 0:
        rungs.append(Rung(number=0, begin=0, removed=0, branch=0, end=0))
    for number, end in enumerate(ends[len(rungs) :], start=len(rungs)):
        branch = end if ladder.branch is None else end - max(1, _nearest(ladder.branch * (end - begin)))
        if branch <= begin:
            name = "the trunk" if number == 0 else f"rung {number}"
            needed = "a step of its own and one of its branch" if ladder.branch is not None else "a step"
            raise ValueError(f"{name} of the ladder lacks {needed} in a training of {num_steps} steps")
        removed = begin
        if number > 0 and ladder.removal_end is not None:
            removed = begin + max(1, math.ceil(ladder.removal_end * (branch - begin) - 1e-9))
        rungs.append(Rung(number, begin, removed, branch, end))
        begin = end
    return tuple(rungs)


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)
