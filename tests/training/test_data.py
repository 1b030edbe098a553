"""The order of examples is a function of seed and position; workers share one global batch."""

import random

import pytest
import torch

from prunedlora.seeds import derive_seed, generator
from prunedlora.tasks.example import Example
from prunedlora.tasks.task import Features, Shortened
from prunedlora.training.data import BatchOrder, num_epoch_steps

EQUAL = [1] * 20
UNEQUAL = random.Random(0).choices(range(1, 60), k=20)


def order(lengths: list[int] = EQUAL, **changes: int | None) -> BatchOrder:
    """Examples of these lengths; the label of each is its number."""
    features = [Features([0] * n, [number], Shortened.NOT, Example("", "")) for number, n in enumerate(lengths)]
    settings: dict[str, int | None] = {
        "batch_size": 6, "micro_batch_size": None, "micro_batch_tokens": None, "seed": 3, **changes
    }  # fmt: skip
    return BatchOrder(features, **settings)  # type: ignore[arg-type]


def step_of(order: BatchOrder, step: int, rank: int = 0, num_workers: int = 1) -> list[list[int]]:
    """Numbers of the examples of each forward pass."""
    return [[f.targets[0] for f in features] for features in order.micro_batches(step, rank, num_workers)]


def passes(order: BatchOrder, step: int, rank: int = 0, num_workers: int = 1) -> list[list[int]]:
    """Lengths of the examples of each forward pass."""
    return [[len(f.input_ids) for f in features] for features in order.micro_batches(step, rank, num_workers)]


def test_every_pass_sees_every_example_once() -> None:
    seen = [example for step in range(10) for batch in step_of(order(), step) for example in batch]
    for epoch in range(3):
        assert sorted(seen[20 * epoch : 20 * (epoch + 1)]) == list(range(20))
    assert seen[:20] != seen[20:40]


def test_the_seed_decides_the_order() -> None:
    assert step_of(order(), 4) == step_of(order(), 4)
    assert step_of(order(), 0) != step_of(order(seed=4), 0)


@pytest.mark.parametrize("num_workers", [2, 3, 4])
def test_workers_share_the_global_batch(num_workers: int) -> None:
    whole = step_of(order(), 2)[0]
    shares = [[i for part in step_of(order(), 2, rank, num_workers) for i in part] for rank in range(num_workers)]
    assert sorted(example for share in shares for example in share) == sorted(whole)
    assert [shares[i % num_workers][i // num_workers] for i in range(6)] == whole


def test_micro_batches_split_the_share_in_order() -> None:
    parts = step_of(order(micro_batch_size=4), 1)
    assert [len(part) for part in parts] == [4, 2]
    assert parts[0] + parts[1] == step_of(order(), 1)[0]


LIMITS = [
    {},
    {"micro_batch_size": 1},
    {"micro_batch_size": 4},
    {"micro_batch_tokens": 1},
    {"micro_batch_tokens": 70},
    {"micro_batch_tokens": 10**6},
]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("batch_size", [4, 7, 9, 20])
@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
def test_a_step_is_dealt_out_by_length(limit: dict[str, int], batch_size: int, num_workers: int) -> None:
    """Every example once, equally many passes on every worker, like lengths together, and the same when asked again."""
    whole = order(UNEQUAL, batch_size=batch_size)
    cut = order(UNEQUAL, batch_size=batch_size, **limit)
    for step in range(3):
        shares = [step_of(cut, step, rank, num_workers) for rank in range(num_workers)]
        assert sorted(i for share in shares for part in share for i in part) == sorted(step_of(whole, step)[0])
        assert len({len(share) for share in shares}) == 1
        assert shares == [step_of(cut, step, rank, num_workers) for rank in range(num_workers)]
        lengths = [[n for part in passes(cut, step, rank, num_workers) for n in part] for rank in range(num_workers)]
        assert all(share == sorted(share, reverse=True) for share in lengths)
        assert max(map(sum, lengths)) - min(map(sum, lengths)) <= max(UNEQUAL)
        assert all(part for share in shares for part in share[:-1])


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_a_pass_keeps_to_its_tokens_or_is_one_example(num_workers: int) -> None:
    for step in range(3):
        for rank in range(num_workers):
            parts = passes(order(UNEQUAL, batch_size=20, micro_batch_tokens=70), step, rank, num_workers)
            assert all(len(part) == 1 or len(part) * max(part) <= 70 for part in parts if part)


def test_a_budget_of_tokens_is_used() -> None:
    assert passes(order([8, 8, 3, 3, 3, 2], micro_batch_tokens=9), 0) == [[8], [8], [3, 3, 3], [2]]


def test_a_worker_without_an_example_for_the_last_pass_gets_an_empty_one() -> None:
    shares = [step_of(order(batch_size=5, micro_batch_size=1), 0, rank, 2) for rank in range(2)]
    assert [[len(part) for part in share] for share in shares] == [[1, 1, 1], [1, 1, 0]]


def test_ordering_saves_padding() -> None:
    lengths = [round(2 ** random.Random(number).uniform(4, 9)) for number in range(256)]
    padded = [len(part) * max(part) for part in passes(order(lengths, batch_size=128, micro_batch_size=8), 0)]
    seen = [lengths[number] for number in step_of(order(lengths, batch_size=128), 0)[0]]
    as_drawn = [seen[i] for i in torch.randperm(128, generator=generator(0, "shuffled")).tolist()]
    assert sum(padded) < 0.6 * sum(8 * max(as_drawn[i : i + 8]) for i in range(0, 128, 8))


def test_a_step_s_tokens_are_counted_with_and_without_padding() -> None:
    """Six examples: in one pass 6 × 9, two by two 2 × 9 + 2 × 6 + 2 × 2, two workers 3 × 9 + 3 × 7."""
    lengths = [1, 9, 4, 7, 6, 2]
    assert order(lengths).token_counts(0, 1) == (29, 54)
    assert order(lengths, micro_batch_size=2).token_counts(0, 1) == (29, 2 * 9 + 2 * 6 + 2 * 2)
    assert order(lengths).token_counts(3, 2) == (29, 3 * 9 + 3 * 7)
    assert order(lengths, micro_batch_size=1).token_counts(0, 2) == (29, 29)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_padding_adds_to_tokens_which_the_workers_share(limit: dict[str, int], num_workers: int) -> None:
    cut = order(UNEQUAL, batch_size=7, **limit)
    for step in range(3):
        tokens, positions = cut.token_counts(step, num_workers)
        shares = [passes(cut, step, rank, num_workers) for rank in range(num_workers)]
        assert tokens == cut.token_counts(step, 1)[0]
        assert positions == sum(len(part) * max(part) for share in shares for part in share if part)
        assert positions >= tokens


def test_epochs_round_up_to_steps() -> None:
    assert [num_epoch_steps(len(order().features), order().batch_size, n) for n in (0.1, 1.0, 1.5)] == [1, 4, 5]


def test_seeds_differ_by_purpose_and_counter() -> None:
    seeds = [
        derive_seed(0, "order", 0),
        derive_seed(0, "order", 1),
        derive_seed(0, "dropout", 0),
        derive_seed(1, "order"),
    ]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert generator(0, "x").initial_seed() == derive_seed(0, "x")
