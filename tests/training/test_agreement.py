"""Workers that have removed different components are told so, all of them."""

import pytest
import torch

from prunedlora.pruning.pruner import Event
from prunedlora.training.agreement import Agreement, WorkersDifferError
from prunedlora.training.distributed import Workers

CPU = torch.device("cpu")
EVENT = Event(4, {"q": [0, 2]}, {"q": 4, "v": 6})


def checked(*histories: list[Event]) -> list[bool]:
    """Which of the workers with these histories find a difference."""
    agreements = []
    for history in histories:
        agreements.append(Agreement())
        for event in history:
            agreements[-1].add(event)
    sums = torch.stack([agreement.numbers(CPU) for agreement in agreements]).sum(0).tolist()
    found = []
    for agreement in agreements:
        try:
            agreement.check(sums, len(agreements))
            found.append(False)
        except WorkersDifferError:
            found.append(True)
    return found


def test_equal_histories_pass() -> None:
    assert checked([], [], []) == [False] * 3
    assert checked([EVENT], [EVENT]) == [False] * 2
    assert checked(*[[EVENT, EVENT]] * 4096) == [False] * 4096


@pytest.mark.parametrize(
    "other",
    [
        [],
        [Event(4, {"q": [0, 1]}, EVENT.ranks)],
        [Event(4, {"v": [0, 2]}, EVENT.ranks)],
        [Event(4, EVENT.removed, {"q": 4, "v": 7})],
        [Event(6, EVENT.removed, EVENT.ranks)],
        [EVENT, EVENT],
    ],
)
def test_one_difference_is_found_by_all(other: list[Event]) -> None:
    assert checked([EVENT], other) == [True] * 2
    assert checked([EVENT], other, [EVENT], []) == [True] * 4


def test_the_error_says_where_to_look() -> None:
    agreement = Agreement()
    agreement.add(EVENT)
    with pytest.raises(WorkersDifferError, match=r"the 2 workers .* \(this one last did so at step 4\): .* device"):
        agreement.check(agreement.numbers(CPU).tolist(), 2)
    agreement.confirm(Workers(0, 1, CPU))  # alone there is nobody to differ
