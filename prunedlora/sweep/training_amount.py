"""How much a training has to do, before anything starts: what a plan multiplies by measured speeds (estimate.py)."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunedlora.config.trial import TrialConfig
from prunedlora.sweep.evaluation_cost import EvaluationCost
from prunedlora.tasks.task import Features
from prunedlora.tasks.tokenised import lengths_of
from prunedlora.training.data import BatchOrder

SAMPLED_BATCHES = 64
"""Batches whose padding is looked at; a training of fewer steps has all of its own looked at."""


@dataclass(frozen=True)
class TrainingAmount:
    """Of one training, at most: one that is stopped, or fails, takes less."""

    kind: str
    """Which measured speed is its own (`speed_kind`)."""
    num_steps: int
    tokens: float
    """That go through the model in training, padding not counted."""
    positions: float
    """The same, padding counted; what time is measured by."""
    cost: EvaluationCost
    """What evaluating it takes."""

    @property
    def num_candidates(self) -> int:
        return self.cost.num_trained + self.cost.num_cuts

    @property
    def examples_evaluated(self) -> int:
        """Validation examples that pass for their loss."""
        return self.cost.num_trained * self.cost.num_examples + self.cost.num_cuts * self.cost.most_of_cut

    @property
    def num_answers(self) -> int:
        """That are generated."""
        return self.cost.num_answered * self.cost.num_examples


def amount_of(
    trial: TrialConfig, num_steps: int, features: Sequence[Features], num_workers: int, cost: EvaluationCost
) -> TrainingAmount:
    """Of a training on the examples `features`; of their tokens, their lengths alone are read.

    All of its batches are looked at, as `num_workers` workers share them, where they are SAMPLED_BATCHES at most; else
    its examples count with their mean length, and padding as in so many batches, evenly from the first to the last.
    Where memory does not suffice later, passes are smaller, and less is padding.
    """
    training = trial.training
    order = BatchOrder(
        features, training.batch_size, training.micro_batch_size, training.micro_batch_tokens, trial.seed
    )
    places = range(num_steps) if num_steps <= SAMPLED_BATCHES else _evenly(num_steps, SAMPLED_BATCHES)
    counts = [order.token_counts(place, num_workers) for place in places]
    tokens, positions = (float(sum(each)) for each in zip(*counts, strict=True)) if counts else (0.0, 0.0)
    if num_steps > len(counts):
        looked_at, lengths = tokens, lengths_of(features)
        tokens = num_steps * training.batch_size * sum(lengths) / len(lengths)
        positions *= tokens / looked_at
    return TrainingAmount(
        kind=speed_kind(trial),
        num_steps=num_steps,
        tokens=tokens,
        positions=positions,
        cost=cost,
    )


def speed_kind(trial: TrialConfig) -> str:
    """What a speed is measured for: method and model, with its settings. Within one kind, time goes by the positions
    that pass through the model, whatever a batch holds."""
    return f"{trial.method} on {trial.model.model_dump_json(exclude_defaults=True)}"


def _evenly(length: int, number: int) -> list[int]:
    return [i * (length - 1) // (number - 1) for i in range(number)]
