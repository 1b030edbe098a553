"""Which adapters cannot matter: something no larger is clearly better on the same few examples. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from prunedlora.results.record import ExampleOutcomes
from prunedlora.tasks.outcomes import Figure, Outcomes, figures

CLEARLY = 2.0
"""Standard errors of the difference by which a loss must be lower to be clearly so."""


@dataclass(frozen=True)
class Screened:
    """An adapter on the examples of a screening."""

    name: str
    num_params: int
    outcomes: Outcomes
    loss: Figure
    """Of its outcomes."""

    @classmethod
    def of(
        cls, name: str, num_params: int, outcomes: Outcomes | ExampleOutcomes, num_examples: int | None = None
    ) -> Self:
        """On the first `num_examples`; None: on all."""
        sums, targets = list(outcomes.loss_sums[:num_examples]), list(outcomes.num_targets[:num_examples])
        first = Outcomes(loss_sums=sums, num_targets=targets, scores={})
        return cls(name, num_params, first, figures(first)["loss"])

    def clearly_beats(self, other: "Screened") -> bool:
        """Whether the loss is lower by more than CLEARLY standard errors of the difference, example by example."""
        sums = [own - its for own, its in zip(self.outcomes.loss_sums, other.outcomes.loss_sums, strict=True)]
        difference = figures(Outcomes(loss_sums=sums, num_targets=self.outcomes.num_targets, scores={}))["loss"]
        return difference.stderr is not None and difference.value + CLEARLY * difference.stderr < 0


def beaten_by(rival: Screened, others: Sequence[Screened]) -> str | None:
    """The best of those that are no larger and clearly beat it; None where none does. What has the lowest loss of all
    that are no larger is never beaten."""
    winners = [each for each in others if each.num_params <= rival.num_params and each.clearly_beats(rival)]
    return min(winners, key=lambda each: (each.loss.value, each.name)).name if winners else None
