"""An evaluation for which memory does not suffice halves its batches, and gives what it gives with smaller ones."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from prunedlora.tasks.example import Example
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.tasks.task import Features, Shortened
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.memory import Fit, TooLittleMemoryError

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
MODEL = nn.Identity()
LENGTHS = [3, 9, 1, 4, 4, 7, 2, 5, 6, 8, 1]
FEATURES = [Features([0] * n, [number], Shortened.NOT, Example("", "")) for number, n in enumerate(LENGTHS)]
EXPECTED = Outcomes([n / 2 for n in LENGTHS], LENGTHS, {"parity": [number % 2 for number in range(len(LENGTHS))]})


class Hungry:
    """A task that takes at most so many tokens, padding counted, at once."""

    def __init__(self, most_tokens: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.most_tokens = most_tokens
        self.error = error
        self.batches: list[int] = []

    def evaluate(
        self, model: nn.Module, features: Sequence[Features], batch_size: int, device: Any, **_: Any
    ) -> Outcomes:
        assert len(features) <= batch_size
        self.batches.append(len(features))
        if len(features) * max(len(f.input_ids) for f in features) > self.most_tokens:
            raise self.error("out of memory")
        lengths = [len(f.input_ids) for f in features]
        return Outcomes([n / 2 for n in lengths], lengths, {"parity": [f.targets[0] % 2 for f in features]})


def outcomes(task: Any, batch_size: int, fit: Fit | None = None, workers: Workers = ALONE) -> Outcomes:
    return evaluate(MODEL, task, FEATURES, batch_size=batch_size, dtype=torch.float32, workers=workers, fit=fit)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_outcomes_come_in_the_order_of_the_features(batch_size: int) -> None:
    assert outcomes(Hungry(10**6), batch_size) == EXPECTED


def test_a_batch_that_does_not_fit_is_halved_and_what_is_done_stays_done() -> None:
    task, fit = Hungry(20), Fit()
    assert outcomes(task, 8, fit) == EXPECTED
    assert task.batches == [8, 4, 2, 2, 2, 2, 2, 1]
    assert fit == Fit(evaluation_halvings=2)
    task.batches = []
    assert outcomes(task, 8, fit) == EXPECTED  # found once in a trial
    assert task.batches == [2, 2, 2, 2, 2, 1]


def test_what_memory_runs_out_of_later_is_halved_from_there() -> None:
    class Later(Hungry):
        def evaluate(
            self, model: nn.Module, features: Sequence[Features], batch_size: int, device: Any, **_: Any
        ) -> Outcomes:
            self.most_tokens = 36 if len(self.batches) < 2 else 4
            return super().evaluate(model, features, batch_size, device)

    task = Later(0)
    assert outcomes(task, 4) == EXPECTED
    assert task.batches == [4, 4, 3, 2, 1]


def test_a_single_example_that_does_not_fit() -> None:
    with pytest.raises(
        TooLittleMemoryError,
        match=r"evaluation: memory does not suffice for one example at a time, on worker 0 \(batch_size 4 was halved "
        r"2 times\): out of memory",
    ):
        outcomes(Hungry(8), 4)


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(ValueError, match=r"^out of memory$"):
        outcomes(Hungry(8, ValueError), 4)


class _OneOfTwo(Workers):
    """Rank 0 beside a rank that found this."""

    found: tuple[Any, int]

    def gather(self, value: Any) -> list[Any]:
        return [value, self.found]


def test_the_worker_with_the_least_memory_decides_and_all_hear_of_its_failure() -> None:
    workers, fit = _OneOfTwo(0, 2, CPU), Fit()
    object.__setattr__(workers, "found", (Outcomes([0.0] * 5, [1] * 5, {"parity": [0] * 5}), 2))
    outcomes(Hungry(10**6), 4, fit, workers)
    assert fit.evaluation_halvings == 2
    object.__setattr__(workers, "found", ("too much", 3))
    with pytest.raises(TooLittleMemoryError, match=r"on worker 1 .* halved 3 times\): too much"):
        outcomes(Hungry(10**6), 4, fit, workers)
