"""Worth: whether a candidate may be on the front, told by its loss, before answers are generated for it.

Generating costs many passes an example, the loss one. A candidate whose loss another candidate, no larger on any axis
of size, clearly undercuts on the same examples is left with its loss alone. That is a judgement: a training that has
begun to overfit may have the higher loss and the better answers, and sizes are those that were trained, while a server
may need the smaller one in a larger form; `evaluation.generate: all` asks for all answers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, JudgedByLoss
from prunedlora.results.store import Store
from prunedlora.sizes import SIZES
from prunedlora.tasks.outcomes import per_target
from prunedlora.trial.rivals import Rival, rivals_of

MOST_READ = 4
"""Rivals, those of the lowest loss, whose outcomes by example are read for one candidate: some 20 kB each for 500
examples."""
STANDARD_ERRORS = 3.0
"""So far beyond 0 the paired difference must lie: once in 740 by chance alone, where the losses are equal."""


class Losses(Protocol):
    """Losses by example, in the order of the split."""

    @property
    def loss_sums(self) -> Sequence[float]: ...

    @property
    def num_targets(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Difference:
    """How much higher one loss per target is than another on the same examples, in nats."""

    value: float
    stderr: float

    @property
    def is_clear(self) -> bool:
        return self.value > STANDARD_ERRORS * self.stderr


def is_judged(config: TrialConfig, *, is_end: bool, is_cut: bool, is_original: bool = False) -> bool:
    """Whether a candidate's loss decides if its answers are generated.

    Of a training without a ladder, the adapter at its end never is: what it came to is what the study is told and what
    one asks of it first. Nor are full fine-tuning, which has no size to be compared, and an adapter as it came
    (Candidate.is_original): they are references.
    """
    if config.generate != "may_matter" or config.adapter is None or is_original:
        return False
    has_ladder = config.pruning is not None and config.pruning.ladder is not None
    return has_ladder or is_cut or not is_end


def difference(mine: Losses, other: Losses) -> Difference | None:
    """`mine` minus `other`, paired: `per_target` of the differences of the loss sums.

    None where there are no pairs: other examples, other targets (another tokenizer or limit of length), or one example
    alone.
    """
    if tuple(mine.num_targets) != tuple(other.num_targets):
        return None
    apart = [s - o for s, o in zip(mine.loss_sums, other.loss_sums, strict=True)]
    value, stderr = per_target(apart, mine.num_targets)
    return None if stderr is None else Difference(value, stderr)


def sizes_of(candidate: Candidate) -> tuple[float, ...]:
    """Its place on every axis of size; infinite where it has none, being too large for every served slot."""
    values = (getattr(candidate, name) for name in SIZES)
    return tuple(math.inf if value is None else float(value) for value in values)


def worth_reading(candidate: Candidate, rivals: Iterable[Rival]) -> list[Rival]:
    """The rivals that may beat it, lowest loss first, at most MOST_READ: no larger on any axis, of lower loss on as
    many examples."""
    sizes, loss = sizes_of(candidate), candidate.figures["loss"]
    found = [
        rival
        for rival in rivals
        if rival.num_examples == loss.num_examples
        and rival.loss < loss.value
        and all(its <= own for its, own in zip(rival.sizes, sizes, strict=True))
    ]
    return sorted(found, key=lambda rival: (rival.loss, rival.key, rival.candidate))[:MOST_READ]


def judged(
    candidate: Candidate, losses: Losses, config: TrialConfig, key: str, earlier: Sequence[Candidate], store: Store
) -> JudgedByLoss | None:
    """Who beats a candidate for certain, so that its answers need not be generated; None: nobody, it may be on the
    front. Asked on rank 0, whose file sizes are known.

    Rivals are the candidates of the store's ended trials of the same base and data (rivals.py), and
    `earlier`, this trial's own. Raises RecordError for broken records or outcomes, StoreError as the storage does.
    """
    own = [Rival.of(key, other, sizes_of(other)) for other in earlier]
    rivals = worth_reading(candidate, [*rivals_of(store, config, key, sizes_of), *own])
    outcomes = store.read_many_outcomes([(rival.key, rival.candidate) for rival in rivals])
    for rival, other in zip(rivals, outcomes, strict=True):
        apart = None if other is None else difference(losses, other)
        if apart is not None and apart.is_clear:
            return JudgedByLoss(
                beaten_by=rival.name,
                num_examples=rival.num_examples,
                difference=apart.value,
                stderr=apart.stderr,
            )
    return None
